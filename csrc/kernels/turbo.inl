// Turbo: large batches on weights rounded to int8, with one scale for 128 columns of a row.
// Included inside an ISA's namespace, after linear.inl.
//
// Exact kernels spend two or three operations a block beside the eight dot products: the product of
// both scales, the sum, the offset. Here weights are symmetric and the scales of weights and
// activations last four blocks, so that half an operation is left. Opt-in: it costs accuracy, and a
// token's result depends on how many others are computed with it.

// value = scale * q + shift, for the weights of one half of a block.
template <class S>
struct Affine {
  f32 scale, shift;
  Affine(const FromPanel<S>& from, int half) : scale(from.scale(S::kHalves == 2 ? half : 0)) {
    if constexpr (S::kOffsets > 0)
      shift = from.offset(S::kOffsets == 2 ? half : 0);
    else
      shift = scale * set1(-static_cast<float>(1 << S::kZeroShift));
  }
};

FF_INLINE f32 magnitude(f32 x) { return bits(bits(x) & 0x7fffffff); }

// A bound on the magnitude of each row's weights in `count` blocks from `from` on: those of the
// smallest and largest numbers that the scheme can write, which its quantiser uses in nearly any
// block.
template <class S>
static f32 largest_weights(FromPanel<S> from, int count) {
  f32 top = {};
  for (int i = 0; i < count; ++i, from.next())
    for (int half = 0; half < 2; ++half) {
      const Affine<S> affine(from, half);
      const f32 last =
          fma(affine.scale, set1(static_cast<float>((1 << S::kBits) - 1)), affine.shift);
      top = maximum(top, maximum(magnitude(affine.shift), magnitude(last)));
    }
  return top;
}

// round(256 x) modulo 2^16, in both halves of a lane.
FF_INLINE u16x32 in_256ths(f32 x) {
  // 1.5 * 2^23 on top leaves the whole number in the low bits.
  const u32 whole = (u32)bits(x * set1(256.0f) + set1(12582912.0f)) & 0xffff;
  return (u16x32)(whole | whole << 16);
}

// Bytes [block][8 groups][64] and 16 scales for every kTurboBlocks blocks. A new weight is
// scale * q + shift in 256ths, two columns of a row to a lane; whatever overflows on the way does
// not in the end.
template <class S>
static void unpack_turbo(const uint8_t* panel, int num_blocks, uint8_t* bytes, float* scales) {
  FromPanel<S> from{panel};
  const uint16_t zero_and_half = 256 * (1 << kTurboZeroShift) + 128;
  for (int b = 0; b < num_blocks; b += kTurboBlocks, scales += 16) {
    const int count = num_blocks - b < kTurboBlocks ? num_blocks - b : kTurboBlocks;
    const f32 top = largest_weights(from, count);
    const f32 inverse = set1(127.0f) / maximum(top, set1(1e-30f));
    store(scales, top * set1(1.0f / 127.0f));
    for (int i = 0; i < count; ++i, from.next())
      for (int half = 0; half < 2; ++half) {
        const Affine<S> affine(from, half);
        const u16x32 scale = in_256ths(affine.scale * inverse);
        // The zero point stays exact, so that the error of `scale` grows with the weight only.
        const u16x32 shift = S::kOffsets ? in_256ths(affine.shift * inverse) + zero_and_half
                                         : zero_and_half - (scale << S::kZeroShift);
#pragma GCC unroll 4
        for (int j = 4 * half; j < 4 * half + 4; ++j, bytes += 64) {
          const u16x32 pairs = (u16x32)from.weights(j);
          const u16x32 even = (pairs & 255) * scale + shift, odd = (pairs >> 8) * scale + shift;
          store_bytes(bytes, (u8x64)((even >> 8) | (odd & 0xff00)));
        }
      }
  }
}

template <int M>
static void turbo_tile(const uint8_t* bytes, const float* scales, const Tile& tile, float* out) {
  for (int first = 0; first < tile.num_blocks; first += kTurboBlocks, scales += 16) {
    const int last =
        first + kTurboBlocks < tile.num_blocks ? first + kTurboBlocks : tile.num_blocks;
    i32 sums = {};  // a lane a token; what lies behind the tile is read, not used
    for (int b = first; b < last; ++b)
      sums += load_ints(tile.minus_first + b * M) + load_ints(tile.minus_second + b * M);
    alignas(64) int32_t start[16];
    const i32 shifted = sums << kTurboZeroShift;
    std::memcpy(start, &shifted, 64);
    asm volatile("" : "+m"(start));  // broadcast from memory: in registers it would be shuffles
    Dot<8, 8> dot[M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) dot[i].start(start[i]);
    for (int b = first; b < last; ++b, bytes += 512) {
      const int32_t* words = tile.words + b * 8 * M;
      const int32_t* next = words + int64_t{tile.num_blocks} * 8 * M;  // of the next tile
#pragma GCC unroll 8
      for (int i = 0; i < 8 * M; i += 16) __builtin_prefetch(next + i);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        const u8x64 w = load_bytes(bytes + 64 * j);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) dot[i].add(j, w, words[j * M + i]);
      }
    }
    const f32 scale = load(scales);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const f32 before = first ? load(out + 16 * i) : f32{};
      store(out + 16 * i,
            fma(to_f32(dot[i].sum()), scale * set1(tile.scale[first * M + i]), before));
    }
  }
}

template <class S>
static void turbo_panel(const uint8_t* panel, const Activations& a, const Scratch& scratch,
                        float* out) {
  unpack_turbo<S>(panel, a.num_blocks, scratch.weights, scratch.scales);
  for (int t = 0; t < a.num_tiles; ++t)
    with_width(a.width(t), [&](auto width) {
      turbo_tile<width()>(scratch.weights, scratch.scales, tile_of(a, t), out + 16 * a.start(t));
    });
}

static void panel(const Matrix& weights, int64_t index, const Activations& input,
                  Arithmetic arithmetic, const Scratch& scratch, float* out) {
  with_scheme(weights.scheme, [&](auto scheme) {
    using S = decltype(scheme);
    const uint8_t* from = weights.panel(index);
    if constexpr (kSchemes[static_cast<int>(S::kScheme)].is_float)
      float_panel<S>(from, input, scratch, out);
    else if (arithmetic == Arithmetic::Float)
      float_panel<S>(from, input, scratch, out);
    else if (is_turbo(arithmetic, input.num_tokens))
      turbo_panel<S>(from, input, scratch, out);
    else
      quantised_panel<S>(from, input, scratch, out);
  });
  scratch.fetches->count = 0;
}
