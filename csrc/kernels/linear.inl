// Linears: panels of 16 rows times tiles of tokens. Included inside an ISA's namespace.
//
// One recurrence whatever the number of tokens, so that a token's result never depends on its
// neighbours: per block acc = fma(float(dot), scale_w * scale_a, acc); offsets in an accumulator of
// their own, offset = fma(min_w, scale_a * sum_a, offset), added last.

// The packed input of one tile.
struct Tile {
  const int32_t* words;
  const float* scale;
  const float* scaled_sum;
  const int32_t* minus_first;
  const int32_t* minus_second;
  const float* values;
  int num_blocks;
};

static inline Tile tile_of(const Activations& a, int index) {
  const int64_t start = a.start(index), width = a.width(index), nb = a.num_blocks;
  const int32_t* first = a.minus_sum + start * nb * 2;
  return {a.words + start * nb * 8,
          a.scale + start * nb,
          a.scaled_sum + start * nb,
          first,
          first + width * nb,
          a.values + start * nb * kBlock,
          a.num_blocks};
}

// Weights straight from the panel.
template <class S>
struct FromPanel {
  using Format = S;
  const uint8_t* group;
  int index = 0;
  void next() {
    if (++index == S::kGroup) {
      index = 0;
      group += S::kGroupBytes;
    }
  }
  u8x64 weights(int j) const { return S::weights(group, index, j); }
  f32 scale(int half) const { return S::scale(group, index, half); }
  f32 offset(int half) const { return S::offset(group, index, half); }
  // Asks for the weights `ahead` bytes on: a compute-bound loop leaves the stream too far behind.
  void prefetch(int ahead) const {
    const uint8_t* from = group + int64_t{index} * S::kBlockBytes + ahead;
    for (int line = 0; line < S::kBlockBytes; line += 64) __builtin_prefetch(from + line, 0, 2);
  }
};

// Weights of a panel that was unpacked once: bytes, and for each block its scales and offsets.
template <class S>
struct FromScratch {
  using Format = S;
  static constexpr int kFloats = 16 * (S::kHalves + S::kOffsets);
  const uint8_t* bytes;
  const float* scales;
  void next() {
    bytes += 512;
    scales += kFloats;
  }
  u8x64 weights(int j) const { return load_bytes(bytes + 64 * j); }
  f32 scale(int half) const { return load(scales + 16 * half); }
  f32 offset(int half) const { return load(scales + 16 * (S::kHalves + half)); }
  void prefetch(int) const {}
};

template <class S>
static void unpack_panel(const uint8_t* panel, int num_blocks, uint8_t* bytes, float* scales) {
  FromPanel<S> from{panel};
  for (int b = 0; b < num_blocks; ++b, from.next(), bytes += 512) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) store_bytes(bytes + 64 * j, from.weights(j));
    for (int half = 0; half < S::kHalves; ++half, scales += 16) store(scales, from.scale(half));
    for (int half = 0; half < S::kOffsets; ++half, scales += 16) store(scales, from.offset(half));
  }
}

// off += offset * scale * sum of one block's inputs, each half by itself where offsets differ.
template <int M, class Source>
FF_INLINE void add_offsets(const Source& from, const Tile& tile, int b, f32* off) {
  if constexpr (Source::Format::kOffsets == 1) {
    const f32 offset = from.offset(0);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) off[i] = fma(offset, set1(tile.scaled_sum[b * M + i]), off[i]);
  } else {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const int32_t* minus = (half ? tile.minus_second : tile.minus_first) + b * M;
      const float* scale = tile.scale + b * M;
      const f32 offset = from.offset(half);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
        off[i] = fma(offset, set1(scale[i] * static_cast<float>(-minus[i])), off[i]);
    }
  }
}

// What a tile asks for: `each` pieces with a block.
struct Asks {
  Asks() = default;
  Asks(const Fetches& fetches, int num_blocks)
      : next(fetches.pieces),
        end(fetches.pieces + fetches.count),
        each((fetches.count + num_blocks - 1) / num_blocks) {}

  void some() {
    for (int i = 0; i < each && next < end; ++i, ++next)
      for (int line = 0; line < Fetches::kPieceBytes; line += 64)
        __builtin_prefetch(*next + line, 0, 2);
  }

  const uint8_t *const *next = nullptr, *const *end = nullptr;
  int each = 0;
};

template <int M, class Source>
static void quantised_tile(Source from, const Tile& tile, Asks asks, float* out) {
  using S = typename Source::Format;
  constexpr int kPerHalf = 8 / S::kHalves;
  f32 acc[M];
  f32 off[M];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) acc[i] = off[i] = f32{};
  Source second = from;  // offsets go in a loop of their own when registers are short
  constexpr bool kOffsetApart = S::kOffsets && M > 8;
  for (int b = 0; b < tile.num_blocks; ++b, from.next()) {
    const int32_t* words = tile.words + b * 8 * M;
    if constexpr (M >= 3) from.prefetch(kPrefetchBytes);
    asks.some();
#pragma GCC unroll 2
    for (int half = 0; half < S::kHalves; ++half) {
      Dot<S::kBits, kPerHalf> dot[M];
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        if constexpr (S::kOffsets) {
          dot[i].start(0);
        } else {
          int32_t sum;
          if constexpr (S::kHalves == 1)
            sum = tile.minus_first[b * M + i] + tile.minus_second[b * M + i];
          else
            sum = half ? tile.minus_second[b * M + i] : tile.minus_first[b * M + i];
          dot[i].start(sum << S::kZeroShift);
        }
      }
#pragma GCC unroll 8
      for (int j = 0; j < kPerHalf; ++j) {
        const int group = half * kPerHalf + j;
        const u8x64 w = from.weights(group);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) dot[i].add(j, w, words[group * M + i]);
      }
      const f32 scale = from.scale(half);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
        acc[i] = fma(to_f32(dot[i].sum()), scale * set1(tile.scale[b * M + i]), acc[i]);
    }
    if constexpr (S::kOffsets && !kOffsetApart) add_offsets<M>(from, tile, b, off);
  }
  if constexpr (kOffsetApart) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) store(out + 16 * i, acc[i]);
    for (int b = 0; b < tile.num_blocks; ++b, second.next()) add_offsets<M>(second, tile, b, off);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) acc[i] = load(out + 16 * i);
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) store(out + 16 * i, S::kOffsets ? acc[i] + off[i] : acc[i]);
}

template <class S>
static void quantised_panel(const uint8_t* panel, const Activations& a, const Scratch& scratch,
                            float* out) {
  const bool direct = a.num_tiles <= kDirectTiles;
  if (!direct) unpack_panel<S>(panel, a.num_blocks, scratch.weights, scratch.scales);
  for (int t = 0; t < a.num_tiles; ++t) {
    const Tile tile = tile_of(a, t);
    float* to = out + 16 * a.start(t);
    const Asks asks = t == 0 ? Asks(*scratch.fetches, a.num_blocks) : Asks();
    with_width(a.width(t), [&](auto width) {
      if (direct)
        quantised_tile<width()>(FromPanel<S>{panel}, tile, asks, to);
      else
        quantised_tile<width()>(FromScratch<S>{scratch.weights, scratch.scales}, tile, asks, to);
    });
  }
}

// One block of a quantised panel as floats, [column][row].
template <class S>
static void dequantise_block(const FromPanel<S>& from, float* out) {
  const f32 zero = set1(S::kOffsets ? 0.0f : static_cast<float>(1 << S::kZeroShift));
  for (int j = 0; j < 8; ++j) {
    const u8x64 w = from.weights(j);
    const f32 scale = from.scale(S::kHalves == 2 ? j / 4 : 0);
    for (int i = 0; i < 4; ++i) {
      const f32 q = to_f32(byte_of(w, i)) - zero;
      f32 value = scale * q;
      if constexpr (S::kOffsets) value = value + from.offset(S::kOffsets == 2 ? j / 4 : 0);
      store(out + (4 * j + i) * 16, value);
    }
  }
}

template <int M>
static void float_tile(const float* columns, int64_t k0, const Tile& tile, float* out) {
  const float* values = tile.values + k0 * M;
  f32 acc[M];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) acc[i] = k0 == 0 ? f32{} : load(out + 16 * i);
  for (int k = 0; k < kBlock; ++k) {
    const f32 w = load(columns + 16 * k);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) acc[i] = fma(w, set1(values[k * M + i]), acc[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) store(out + 16 * i, acc[i]);
}

// Float weights, and quantised weights with f32 activations: block by block through float32.
template <class S>
static void float_panel(const uint8_t* panel, const Activations& a, const Scratch& scratch,
                        float* out) {
  float* columns = reinterpret_cast<float*>(scratch.weights);
  auto tiles = [&](int b) {
    for (int t = 0; t < a.num_tiles; ++t) {
      const Tile tile = tile_of(a, t);
      with_width(a.width(t), [&](auto width) {
        float_tile<width()>(columns, int64_t{b} * kBlock, tile, out + 16 * a.start(t));
      });
    }
  };
  if constexpr (kSchemes[static_cast<int>(S::kScheme)].is_float) {
    for (int b = 0; b < a.num_blocks; ++b) {
      for (int k = 0; k < kBlock; ++k)
        store(columns + 16 * k, S::column(panel, int64_t{b} * kBlock + k));
      tiles(b);
    }
  } else {
    FromPanel<S> from{panel};
    for (int b = 0; b < a.num_blocks; ++b, from.next()) {
      dequantise_block(from, columns);
      tiles(b);
    }
  }
}

static void unpack_row(const Matrix& weights, int64_t row, float* out) {
  const uint8_t* data = weights.panel(row / kPanelRows);
  const int64_t lane = row % kPanelRows;
  float block[kBlock * 16];
  with_scheme(weights.scheme, [&](auto scheme) {
    using S = decltype(scheme);
    if constexpr (kSchemes[static_cast<int>(S::kScheme)].is_float) {
      for (int64_t k = 0; k < weights.cols; ++k) out[k] = S::column(data, k)[lane];
    } else {
      FromPanel<S> from{data};
      for (int64_t b = 0; b < weights.num_blocks; ++b, from.next()) {
        dequantise_block(from, block);
        const int64_t count = std::min<int64_t>(kBlock, weights.cols - b * kBlock);
        for (int k = 0; k < count; ++k) out[b * kBlock + k] = block[16 * k + lane];
      }
    }
  });
}
