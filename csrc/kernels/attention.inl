// Attention over the paged KV cache. Included inside an ISA's namespace.
//
// The rows of an item are (token, query head of the group) pairs, all sharing one KV head. Keys
// come in tiles of 64 at absolute multiples with one softmax update each, and in chunks of 256
// whose results (m, l, o) are merged in order; a row therefore sees the same sequence of operations
// whatever else is in the item, however the item is split.

#include "kv.inl"
#include "attention_int8.inl"

// scores[row][16 w ...] = q[row] . keys of block w, of kAttnWide blocks. q as words of kPer dims.
template <int R, class Kv>
static void score_blocks(const int32_t* q, const KvHead<Kv>* blocks, float* scores) {
  constexpr int W = kAttnWide;
  f32 acc[R][W];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w) acc[r][w] = f32{};
  const int64_t words = blocks[0].num_vectors();
  for (int64_t i = 0; i < words; ++i) {
    decltype(Kv::load_vector(blocks[0].keys(0))) k[W];
#pragma GCC unroll 2
    for (int w = 0; w < W; ++w) {
      k[w] = Kv::load_vector(blocks[w].keys(i));
      if constexpr (R <= kFewRows) blocks[w].prefetch(i);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int32_t word = q[r * words + i];
#pragma GCC unroll 2
      for (int w = 0; w < W; ++w) acc[r][w] = Kv::madd(acc[r][w], k[w], word);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w) store(scores + r * kKvTile + 16 * w, acc[r][w]);
}

// o[row] = o[row] * rescale[row] + sum over keys of p[row][key] * value[key], kAttnWide
// vectors of dims at a time.
// p as words of kPer keys.
template <int R, class Kv>
static void add_values(const int32_t* p, const float* rescale, int num_keys,
                       const KvHead<Kv>* blocks, float* o) {
  constexpr int kPerBlock = kKvBlock / Kv::kPer, kPerTile = kKvTile / Kv::kPer;
  const int dim = blocks[0].dim, num_words = (num_keys + Kv::kPer - 1) / Kv::kPer;
  int first = 0;
  auto part = [&](auto wide) {
    constexpr int W = wide();
    f32 acc[R][W];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < W; ++w) acc[r][w] = load(o + r * dim + first + 16 * w) * set1(rescale[r]);
    for (int begin = 0; begin < num_words; begin += kPerBlock) {
      const int count = num_words - begin < kPerBlock ? num_words - begin : kPerBlock;
      const uint8_t* from = blocks[begin / kPerBlock].values(first / 16);
      const int64_t ahead = blocks[begin / kPerBlock].ahead - blocks[begin / kPerBlock].base;
      for (int i = 0; i < count; ++i, from += dim / 16 * Kv::kBytes) {
        decltype(Kv::load_vector(from)) v[W];
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) {
          v[w] = Kv::load_vector(from + w * Kv::kBytes);
          if constexpr (R <= kFewRows) __builtin_prefetch(from + w * Kv::kBytes + ahead, 0, 2);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const int32_t word = p[r * kPerTile + begin + i];
#pragma GCC unroll 2
          for (int w = 0; w < W; ++w) acc[r][w] = Kv::madd(acc[r][w], v[w], word);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < W; ++w) store(o + r * dim + first + 16 * w, acc[r][w]);
    first += 16 * W;
  };
  while (first + 16 * kAttnWide <= dim) part(std::integral_constant<int, kAttnWide>{});
  if (first < dim) part(std::integral_constant<int, 1>{});
}

// What a tile of keys holds for all rows of an item. Scores count in powers of two: log2(e) is in
// q.
struct RowState {
  float m[kAttnRows], l[kAttnRows];  // largest score so far, sum of weights
  float* o;                          // [row][dim]
};

// Softmax update of all rows for one tile: scores become weights, as words (int8: as they are);
// `rescale` is what o must shrink by. Row r sees keys [low[r], high[r]) of the tile. Phase by phase
// over the rows, so that none waits for another's reductions.
template <class Kv>
static void update_rows(int num_rows, const int* low, const int* high, bool partly, float* scores,
                        int32_t* words, RowState& state, float* rescale) {
  alignas(64) float top[kAttnRows] = {}, sum[kAttnRows] = {}, shift[kAttnRows];
  for (int r = 0; r < num_rows; ++r) {
    float* from = scores + r * kKvTile;
    f32 best = set1(-INFINITY);
    for (int v = 0; v < 4; ++v) {
      f32 s = load(from + 16 * v);
      if (partly) {
        s = keep_first(s, high[r] - 16 * v, -INFINITY);
        const f32 hidden = keep_first(set1(-INFINITY), low[r] - 16 * v, INFINITY);
        s = minimum(s, hidden);
        store(from + 16 * v, s);
      }
      best = maximum(best, s);
    }
    top[r] = reduce_max(best);
  }
  const f32 old = load(state.m), now = maximum(old, load(top));
  const f32 shrink = exp2(old - now);
  store(state.m, now);
  store(shift, maximum(now, set1(-3e38f)));  // no key seen yet: every weight is zero
  store(rescale, shrink);
  for (int r = 0; r < num_rows; ++r) {
    f32 total = {};
    for (int v = 0; v < 4; ++v) {
      const f32 p = exp2(load(scores + r * kKvTile + 16 * v) - set1(shift[r]));
      if constexpr (Kv::kScaled) {
        total = total + p;
        store(scores + r * kKvTile + 16 * v, p);
      } else {
        total = total + Kv::put_words(words + (r * kKvTile + v * 16) / Kv::kPer, p);
      }
    }
    sum[r] = reduce_add(total);
  }
  store(state.l, load(state.l) * shrink + load(sum));
}

// One tile of keys for all rows. `cap` (0: none) bounds scores, in powers of two as they are.
template <class Kv>
static void attend_tile(const int32_t* q, const QueryRows& queries, int num_rows, int num_keys,
                        const int* low, const int* high, bool partly, float cap,
                        const KvHead<Kv>* blocks, float* scores, RowState& state) {
  const int dim = blocks[0].dim, num_blocks = (num_keys + kKvBlock - 1) / kKvBlock;
  alignas(64) int32_t words[kAttnRows * kKvTile / Kv::kPerWord];
  alignas(64) float rescale[kAttnRows], step[kAttnRows];
  auto in_groups = [&](auto body) {  // of at most kAttnTile rows, as even as can be
    const int groups = (num_rows + kAttnTile - 1) / kAttnTile;
    for (int g = 0, r = 0; g < groups; ++g) {
      const int count = num_rows / groups + (g < num_rows % groups);
      with_width<kAttnTile>(count, [&](auto width) { body(width, r); });
      r += count;
    }
  };
  in_groups([&](auto width, int r) {
    const int32_t* from = q + r * dim / Kv::kPerWord;
    for (int b = 0; b < num_blocks; b += kAttnWide) {
      KvHead<Kv> some[kAttnWide];
      for (int w = 0; w < kAttnWide; ++w) some[w] = blocks[b + w < num_blocks ? b + w : b];
      float* to = scores + r * kKvTile + b * kKvBlock;
      if constexpr (Kv::kScaled)
        score_blocks_int8<width()>(from, queries, r, some, to);
      else
        score_blocks<width(), Kv>(from, some, to);
    }
  });
  if (cap > 0) soft_cap(scores, int64_t{num_rows} * kKvTile, cap);
  update_rows<Kv>(num_rows, low, high, partly, scores, words, state, rescale);
  if constexpr (Kv::kScaled) round_weights(num_rows, high, blocks, scores, words, step);
  in_groups([&](auto width, int r) {
    const int32_t* from = words + r * kKvTile / Kv::kPerWord;
    if constexpr (Kv::kScaled)
      add_values_int8<width()>(from, rescale + r, step + r, num_keys, blocks, state.o + r * dim);
    else
      add_values<width(), Kv>(from, rescale + r, num_keys, blocks, state.o + r * dim);
  });
}

// (m, l, o) <- merge of itself and a later chunk.
static void merge_row(float* m, float* l, float* o, float chunk_m, float chunk_l,
                      const float* chunk_o, int dim) {
  if (chunk_m == -INFINITY) return;
  const float new_max = *m > chunk_m ? *m : chunk_m;
  const float a = exp2(set1(*m - new_max))[0], b = exp2(set1(chunk_m - new_max))[0];
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

template <class Kv>
static void attend_rows(const AttnItem& item, const AttnShape& shape, const KvLayer& layer,
                        const float* q, const int32_t* positions, const int32_t* block_table,
                        const uint8_t* const* following, float* out, float* partials,
                        const Scratch& scratch) {
  const int dim = shape.head_dim, rows = item.num_tokens * shape.group;
  int32_t* words = reinterpret_cast<int32_t*>(scratch.attn);  // q, scaled
  float* total = scratch.attn + kAttnRows * dim;              // merged o
  float total_m[kAttnRows], total_l[kAttnRows];
  QueryRows queries;
  RowState chunk;
  chunk.o = total + kAttnRows * dim;
  int low[kAttnRows], high[kAttnRows];
  int last = 0, least = INT32_MAX, first = INT32_MAX, from_all = 0;
  const f32 scale = set1(shape.scale * kLog2E);
  for (int r = 0; r < rows; ++r) {
    const int token = item.token + r / shape.group;
    const float* from =
        q + token * shape.q_stride + int64_t{item.kv_head * shape.group + r % shape.group} * dim;
    if constexpr (Kv::kScaled)
      put_query_int8(from, dim, scale, words + r * dim / Kv::kPerWord, queries, r);
    else
      for (int d = 0; d < dim; d += 16)
        Kv::put_words(words + (r * dim + d) / Kv::kPer, load(from + d) * scale);
    high[r] = positions[token] + 1;
    low[r] = shape.window && high[r] > shape.window ? high[r] - shape.window : 0;
    last = high[r] > last ? high[r] : last;
    least = high[r] < least ? high[r] : least;
    first = low[r] < first ? low[r] : first;
    from_all = low[r] > from_all ? low[r] : from_all;
  }
  const int item_end = std::min(last, (item.first_chunk + item.num_chunks) * kKvChunk);
  const int all_blocks = (item_end + kKvBlock - 1) / kKvBlock;
  for (int c = item.first_chunk; c < item.first_chunk + item.num_chunks; ++c) {
    for (int r = 0; r < kAttnRows; ++r) chunk.m[r] = -INFINITY, chunk.l[r] = 0.0f;
    std::memset(chunk.o, 0, sizeof(float) * rows * dim);
    const int end = last < (c + 1) * kKvChunk ? last : (c + 1) * kKvChunk;
    for (int tile = c * kKvChunk; tile < end; tile += kKvTile) {
      if (tile + kKvTile <= first) continue;
      const int num_keys = end - tile < kKvTile ? end - tile : kKvTile;
      KvHead<Kv> blocks[kKvTile / kKvBlock];
      for (int b = 0; b * kKvBlock < num_keys; ++b) {
        const int index = tile / kKvBlock + b, next = index + kBlocksAhead;
        const uint8_t* ahead = next < all_blocks ? layer.head(block_table[next], item.kv_head)
                                                 : following[next - all_blocks];
        blocks[b] = {layer.head(block_table[index], item.kv_head), dim, ahead};
      }
      int tile_low[kAttnRows], tile_high[kAttnRows];
      for (int r = 0; r < rows; ++r) tile_low[r] = low[r] - tile, tile_high[r] = high[r] - tile;
      const bool partly = least < tile + kKvTile || from_all > tile;
      attend_tile<Kv>(words, queries, rows, num_keys, tile_low, tile_high, partly,
                      shape.softcap * kLog2E, blocks, scratch.scores, chunk);
    }
    for (int r = 0; r < rows; ++r) {
      if (item.partial >= 0) {
        float* to = partials + (int64_t{item.partial + c} * kAttnRows + r) * partial_floats(shape);
        to[0] = chunk.m[r];
        to[1] = chunk.l[r];
        std::memcpy(to + 16, chunk.o + r * dim, sizeof(float) * dim);
      } else if (c == 0) {
        total_m[r] = chunk.m[r];
        total_l[r] = chunk.l[r];
        std::memcpy(total + r * dim, chunk.o + r * dim, sizeof(float) * dim);
      } else {
        merge_row(total_m + r, total_l + r, total + r * dim, chunk.m[r], chunk.l[r],
                  chunk.o + r * dim, dim);
      }
    }
  }
  if (item.partial < 0)
    for (int r = 0; r < rows; ++r) write_row(item, shape, r, total_l[r], total + r * dim, out);
}

static void attend(const AttnItem& item, const AttnShape& shape, const KvLayer& layer,
                   const float* q, const int32_t* positions, const int32_t* block_table,
                   const uint8_t* const* following, float* out, float* partials,
                   const Scratch& scratch) {
  with_kv(shape.kv_type, [&](auto type) {
    attend_rows<decltype(type)>(item, shape, layer, q, positions, block_table, following, out,
                                partials, scratch);
  });
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
