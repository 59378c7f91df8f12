// Attention over the paged KV cache. Included inside an ISA's namespace.
//
// The rows of an item are (token, query head of the group) pairs, all sharing one KV head. Keys
// come in tiles of 64 at absolute multiples with one softmax update each, and in chunks of 256
// whose results (m, l, o) are merged in order; a row therefore sees the same sequence of operations
// whatever else is in the item, however the item is split.

template <bool F32>
FF_INLINE f32 load_kv(const uint8_t* from, int64_t index) {
  if constexpr (F32) return load(reinterpret_cast<const float*>(from) + index);
  return bf16_to_f32(reinterpret_cast<const uint16_t*>(from) + index);
}

static void store_kv(const KvLayer& layer, const AttnShape& shape, int64_t slot, int kv_head,
                     bool is_value, const float* row) {
  const int64_t block = slot / kKvBlock, at = slot % kKvBlock;
  uint8_t* base = layer.head(block, kv_head);
  const int dim = shape.head_dim;
  auto put = [&](auto* to, auto convert) {
    for (int d = 0; d < dim; ++d)
      to[is_value ? (kKvBlock + at) * dim + d : d * kKvBlock + at] = convert(row[d]);
  };
  if (shape.kv_f32)
    put(reinterpret_cast<float*>(base), [](float x) { return x; });
  else
    put(reinterpret_cast<uint16_t*>(base), [](float x) { return to_bf16(x); });
}

// Row state of one item: m and l per row, then o[row][dim].
struct RowState {
  float* m;
  float* l;
  float* o;
};

// scores[row][0..31] = q[row] . keys of two blocks.
template <int R, bool F32>
static void score_blocks(const float* q, int dim, const uint8_t* block0, const uint8_t* block1,
                         float* scores) {
  f32 acc0[R], acc1[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) acc0[r] = acc1[r] = f32{};
  for (int d = 0; d < dim; ++d) {
    const f32 k0 = load_kv<F32>(block0, int64_t{d} * kKvBlock);
    const f32 k1 = load_kv<F32>(block1, int64_t{d} * kKvBlock);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const f32 x = set1(q[r * dim + d]);
      acc0[r] = fma(x, k0, acc0[r]);
      acc1[r] = fma(x, k1, acc1[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    store(scores + r * kKvTile, acc0[r]);
    store(scores + r * kKvTile + 16, acc1[r]);
  }
}

// o[row] = o[row] * rescale[row] + sum over keys of p[row][key] * value[key], 32 dims at a time.
template <int R, bool F32>
static void add_values(const float* p, const float* rescale, int dim, int num_keys,
                       const uint8_t* const* blocks, float* o) {
  int first = 0;
  auto part = [&](auto wide) {
    constexpr int W = wide();
    f32 acc[R][W];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < W; ++w) acc[r][w] = load(o + r * dim + first + 16 * w) * set1(rescale[r]);
    for (int key = 0; key < num_keys; ++key) {
      const uint8_t* block = blocks[key / kKvBlock];
      const int64_t at = int64_t{kKvBlock + key % kKvBlock} * dim + first;
      f32 v[W];
#pragma GCC unroll 2
      for (int w = 0; w < W; ++w) v[w] = load_kv<F32>(block, at + 16 * w);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const f32 x = set1(p[r * kKvTile + key]);
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) acc[r][w] = fma(x, v[w], acc[r][w]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < W; ++w) store(o + r * dim + first + 16 * w, acc[r][w]);
    first += 16 * W;
  };
  while (first + 32 <= dim) part(std::integral_constant<int, 2>{});
  if (first < dim) part(std::integral_constant<int, 1>{});
}

// Softmax update of one row for one tile: scores become weights; returns what o must shrink by.
// The row sees keys [low, high) of the tile.
static float update_row(float* scores, int low, int high, float* m, float* l) {
  f32 s[4];
  f32 top = set1(-INFINITY);
  for (int v = 0; v < 4; ++v) {
    s[v] = keep_first(load(scores + 16 * v), high - 16 * v, -INFINITY);
    if (low > 16 * v) {
      const f32 hidden = keep_first(set1(-INFINITY), low - 16 * v, INFINITY);
      s[v] = minimum(s[v], hidden);
    }
    top = maximum(top, s[v]);
  }
  const float tile_max = reduce_max(top);
  const float new_max = *m > tile_max ? *m : tile_max;
  if (new_max == -INFINITY) {
    for (int v = 0; v < 4; ++v) store(scores + 16 * v, f32{});
    return 1.0f;
  }
  f32 sum = {};
  for (int v = 0; v < 4; ++v) {
    const f32 p = exp(s[v] - set1(new_max));
    store(scores + 16 * v, p);
    sum = sum + p;
  }
  const float rescale = exp(set1(*m - new_max))[0];
  *l = *l * rescale + reduce_add(sum);
  *m = new_max;
  return rescale;
}

template <int R, bool F32>
static void attend_tile(const float* q, const AttnShape& shape, int tile_start, int num_keys,
                        const int* low, const int* high, const uint8_t* const* blocks,
                        float* scores, RowState rows) {
  const int dim = shape.head_dim;
  const int num_blocks = (num_keys + kKvBlock - 1) / kKvBlock;
  for (int b = 0; b < num_blocks; b += 2)
    score_blocks<R, F32>(q, dim, blocks[b], blocks[b + 1 < num_blocks ? b + 1 : b],
                         scores + b * kKvBlock);
  float rescale[R];
  for (int r = 0; r < R; ++r)
    rescale[r] = update_row(scores + r * kKvTile, low[r] - tile_start, high[r] - tile_start,
                            rows.m + r, rows.l + r);
  add_values<R, F32>(scores, rescale, dim, num_keys, blocks, rows.o);
}

// (m, l, o) <- merge of itself and a later chunk.
static void merge_row(float* m, float* l, float* o, float chunk_m, float chunk_l,
                      const float* chunk_o, int dim) {
  if (chunk_m == -INFINITY) return;
  const float new_max = *m > chunk_m ? *m : chunk_m;
  const float a = exp(set1(*m - new_max))[0], b = exp(set1(chunk_m - new_max))[0];
  *m = new_max;
  *l = *l * a + chunk_l * b;
  for (int d = 0; d < dim; d += 16)
    store(o + d, fma(load(chunk_o + d), set1(b), load(o + d) * set1(a)));
}

static void write_row(const AttnItem& item, const AttnShape& shape, int row, float l,
                      const float* o, float* out) {
  const int token = item.token + row / shape.group;
  const int head = item.kv_head * shape.group + row % shape.group;
  float* to = out + token * shape.q_stride + int64_t{head} * shape.head_dim;
  const f32 inverse = set1(1.0f / l);
  for (int d = 0; d < shape.head_dim; d += 16) store(to + d, load(o + d) * inverse);
}

// Floats of one row's partial result.
static int64_t partial_floats(const AttnShape& shape) { return shape.head_dim + 16; }

template <bool F32>
static void attend_rows(const AttnItem& item, const AttnShape& shape, const KvLayer& layer,
                        const float* q, const int32_t* positions, const int32_t* block_table,
                        float* out, float* partials, const Scratch& scratch) {
  const int dim = shape.head_dim, rows = item.num_tokens * shape.group;
  float* scaled = scratch.attn;             // q, scaled
  float* total = scaled + kAttnRows * dim;  // merged o
  float* chunk_o = total + kAttnRows * dim;
  float total_m[kAttnRows], total_l[kAttnRows], chunk_m[kAttnRows], chunk_l[kAttnRows];
  int low[kAttnRows], high[kAttnRows];
  int last = 0, first = INT32_MAX;
  for (int r = 0; r < rows; ++r) {
    const int token = item.token + r / shape.group;
    const float* from =
        q + token * shape.q_stride + int64_t{item.kv_head * shape.group + r % shape.group} * dim;
    for (int d = 0; d < dim; d += 16)
      store(scaled + r * dim + d, load(from + d) * set1(shape.scale));
    high[r] = positions[token] + 1;
    low[r] = shape.window && high[r] > shape.window ? high[r] - shape.window : 0;
    last = high[r] > last ? high[r] : last;
    first = low[r] < first ? low[r] : first;
  }
  for (int c = item.first_chunk; c < item.first_chunk + item.num_chunks; ++c) {
    for (int r = 0; r < rows; ++r) chunk_m[r] = -INFINITY, chunk_l[r] = 0.0f;
    std::memset(chunk_o, 0, sizeof(float) * rows * dim);
    const int end = last < (c + 1) * kKvChunk ? last : (c + 1) * kKvChunk;
    for (int tile = c * kKvChunk; tile < end; tile += kKvTile) {
      if (tile + kKvTile <= first) continue;
      const int num_keys = end - tile < kKvTile ? end - tile : kKvTile;
      const uint8_t* blocks[kKvTile / kKvBlock];
      for (int b = 0; b * kKvBlock < num_keys; ++b) {
        blocks[b] = layer.head(block_table[tile / kKvBlock + b], item.kv_head);
      }
      for (int r = 0; r < rows;) {
        const RowState state{chunk_m + r, chunk_l + r, chunk_o + r * dim};
        auto run = [&](auto count) {
          attend_tile<count(), F32>(scaled + r * dim, shape, tile, num_keys, low + r, high + r,
                                    blocks, scratch.scores, state);
          r += count();
        };
        const int left = rows - r, groups = (left + 7) / 8;
        with_width<8>((left + groups - 1) / groups, run);
      }
    }
    for (int r = 0; r < rows; ++r) {
      if (item.partial >= 0) {
        float* to = partials + (int64_t{item.partial + c} * kAttnRows + r) * partial_floats(shape);
        to[0] = chunk_m[r];
        to[1] = chunk_l[r];
        std::memcpy(to + 16, chunk_o + r * dim, sizeof(float) * dim);
      } else if (c == 0) {
        total_m[r] = chunk_m[r];
        total_l[r] = chunk_l[r];
        std::memcpy(total + r * dim, chunk_o + r * dim, sizeof(float) * dim);
      } else {
        merge_row(total_m + r, total_l + r, total + r * dim, chunk_m[r], chunk_l[r],
                  chunk_o + r * dim, dim);
      }
    }
  }
  if (item.partial < 0)
    for (int r = 0; r < rows; ++r) write_row(item, shape, r, total_l[r], total + r * dim, out);
}

static void attend(const AttnItem& item, const AttnShape& shape, const KvLayer& layer,
                   const float* q, const int32_t* positions, const int32_t* block_table, float* out,
                   float* partials, const Scratch& scratch) {
  if (shape.kv_f32)
    attend_rows<true>(item, shape, layer, q, positions, block_table, out, partials, scratch);
  else
    attend_rows<false>(item, shape, layer, q, positions, block_table, out, partials, scratch);
}

// Puts the partial results of a split row set together, in the order of their chunks.
static void merge(const AttnItem& item, const AttnShape& shape, float* partials, float* out) {
  const int dim = shape.head_dim, rows = item.num_tokens * shape.group;
  const int64_t stride = partial_floats(shape);
  for (int r = 0; r < rows; ++r) {
    float* into = partials + (int64_t{item.partial} * kAttnRows + r) * stride;
    for (int c = 1; c < item.total_chunks; ++c) {
      const float* from = partials + (int64_t{item.partial + c} * kAttnRows + r) * stride;
      merge_row(into, into + 1, into + 16, from[0], from[1], from + 16, dim);
    }
    write_row(item, shape, r, into[1], into + 16, out);
  }
}
