// Attention over int8 keys and values by integer dot products. Included by attention.inl.
//
// Nothing is widened: queries and weights become whole numbers themselves, in two planes of seven
// bits and sign, 128 * high + low, each plane a byte for `dot4`. That is as many instructions as
// bfloat16 takes, on half the bytes, and finer than bfloat16. Sums are whole numbers below 2^31 and
// so exact in any order.

constexpr float kLargest = 127 * 128;  // of a query or a weight

// What int8 keys need to know of each query row: a unit's value, and -128 times each plane's sum
// (keys are stored with 128 on top).
struct QueryRows {
  float unit[kAttnRows];
  int32_t start_high[kAttnRows], start_low[kAttnRows];
};

// One row of queries times `scale` as words: all high planes, then all low ones.
static void put_query_int8(const float* row, int dim, f32 scale, int32_t* words, QueryRows& queries,
                           int index) {
  i32 top = {}, high_sum = {}, low_sum = {};
  for (int d = 0; d < dim; d += 16) {
    const i32 magnitude = bits(load(row + d) * scale) & 0x7fffffff;
    top = maximum(top, magnitude);
  }
  const float largest = reduce_top(top, top);  // NaN counts as largest and reaches the unit
  const f32 inverse = set1(largest > 1e-30f ? kLargest / largest : 0.0f);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(words);
  for (int d = 0; d < dim; d += 16) {
    const i32 x = to_i32(round_even(load(row + d) * scale * inverse));
    const i32 high = (x + 64) >> 7, low = x - (high << 7);
    store_low_bytes(bytes + d, high);
    store_low_bytes(bytes + dim + d, low);
    high_sum += high;
    low_sum += low;
  }
  queries.unit[index] = largest / kLargest;
  queries.start_high[index] = -128 * reduce_add(high_sum);
  queries.start_low[index] = -128 * reduce_add(low_sum);
}

// scores[row][16 w ...] = q[row] . keys of block w, of kAttnWide blocks; one after the other when
// rows fill the registers.
template <int R>
static void score_blocks_int8(const int32_t* q, const QueryRows& queries, int first,
                              const KvHead<KvInt8>* blocks, float* scores) {
  constexpr int B = R <= 4 ? kAttnWide : 1;
  const int words = blocks[0].dim / 4;
  for (int b = 0; b < kAttnWide; b += B) {
    i32 high[R][B], low[R][B];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < B; ++w) {
        high[r][w] = set1(queries.start_high[first + r]);
        low[r][w] = set1(queries.start_low[first + r]);
      }
    for (int i = 0; i < words; ++i) {
      u8x64 keys[B];
#pragma GCC unroll 2
      for (int w = 0; w < B; ++w) {
        keys[w] = load_bytes(blocks[b + w].keys(i));
        if constexpr (R <= kFewRows) blocks[b + w].prefetch(i);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const int32_t* word = q + r * 2 * words + i;
#pragma GCC unroll 2
        for (int w = 0; w < B; ++w) {
          high[r][w] = dot4(high[r][w], keys[w], word[0]);
          low[r][w] = dot4(low[r][w], keys[w], word[words]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < B; ++w) {
        const f32 unit = load(blocks[b + w].scales(false)) * set1(queries.unit[first + r]);
        store(scores + r * kKvTile + 16 * (b + w), to_f32((high[r][w] << 7) + low[r][w]) * unit);
      }
  }
}

// Weights times the scales of their values, as words: both planes of a row's 64 keys. `step` is
// what a unit is worth. A row's own largest one sets it: what later keys hold must not matter.
static void round_weights(int num_rows, const int* high_key, const KvHead<KvInt8>* blocks,
                          float* weights, int32_t* words, float* step) {
  alignas(64) float largest[kAttnRows] = {}, inverse[kAttnRows];
  for (int r = 0; r < num_rows; ++r) {
    i32 top = {};
    for (int v = 0; v < 4; ++v) {
      float* at = weights + r * kKvTile + 16 * v;
      const int count = high_key[r] - 16 * v;  // scales behind it are whatever is there
      const f32 x =
          count > 0 ? keep_first(load(at) * load(blocks[v].scales(true)), count, 0.0f) : f32{};
      top = maximum(top, bits(x));
      store(at, x);
    }
    largest[r] = reduce_top(top, top);
  }
  const f32 most = load(largest);
  store(step, most / set1(kLargest));
  store(inverse, zero_where_less(set1(kLargest) / most, most, set1(1e-30f)));
  for (int r = 0; r < num_rows; ++r) {
    uint8_t* bytes = reinterpret_cast<uint8_t*>(words + r * kKvTile / KvInt8::kPerWord);
    for (int v = 0; v < 4; ++v) {
      const f32 x = load(weights + r * kKvTile + 16 * v) * set1(inverse[r]);
      const i32 whole = to_i32(round_even(x));
      store_low_bytes(bytes + 16 * v, whole >> 7);
      store_low_bytes(bytes + kKvTile + 16 * v, whole & 127);
    }
  }
}

// o[row] = o[row] * rescale[row] + step[row] * sum over keys of weight * value.
template <int R>
static void add_values_int8(const int32_t* words, const float* rescale, const float* step,
                            int num_keys, const KvHead<KvInt8>* blocks, float* o) {
  constexpr int kPerBlock = kKvBlock / 4, kPlane = kKvTile / 4, kRow = 2 * kPlane;
  const int dim = blocks[0].dim, num_words = (num_keys + 3) / 4;
  auto part = [&](auto wide, int first) {
    constexpr int W = wide();
    i32 high[R][W], low[R][W];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < W; ++w) high[r][w] = low[r][w] = i32{};
    for (int begin = 0; begin < num_words; begin += kPerBlock) {
      const int count = num_words - begin < kPerBlock ? num_words - begin : kPerBlock;
      const uint8_t* from = blocks[begin / kPerBlock].values(first / 16);
      const int64_t ahead = blocks[begin / kPerBlock].ahead - blocks[begin / kPerBlock].base;
      for (int i = 0; i < count; ++i, from += dim / 16 * KvInt8::kBytes) {
        u8x64 v[W];
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) {
          v[w] = load_bytes(from + w * KvInt8::kBytes);
          if constexpr (R <= kFewRows) __builtin_prefetch(from + w * KvInt8::kBytes + ahead, 0, 2);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const int32_t* word = words + r * kRow + begin + i;
#pragma GCC unroll 2
          for (int w = 0; w < W; ++w) {
            high[r][w] = dot4_positive(high[r][w], v[w], word[0]);
            low[r][w] = dot4_positive(low[r][w], v[w], word[kPlane]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int w = 0; w < W; ++w) {
        float* to = o + r * dim + first + 16 * w;
        const f32 sum = to_f32((high[r][w] << 7) + low[r][w]);
        store(to, fma(sum, set1(step[r]), load(to) * set1(rescale[r])));
      }
  };
  constexpr int kWide = R <= 4 ? kAttnWide : 1;
  int first = 0;
  for (; first + 16 * kWide <= dim; first += 16 * kWide)
    part(std::integral_constant<int, kWide>{}, first);
  if (first < dim) part(std::integral_constant<int, 1>{}, first);
}
