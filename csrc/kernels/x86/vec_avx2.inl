// Sixteen lanes in two registers, and the lane operations for AVX2 with FMA and F16C.
//
// Structs instead of vector types of 64 bytes: those live in memory where no register is as wide.

typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef uint8_t u8x32 __attribute__((vector_size(32)));

template <class Half>
struct Two {
  Half low, high;
  using Lane = std::remove_reference_t<decltype(low[0])>;

  FF_INLINE_MEMBER Lane operator[](int64_t lane) const {
    constexpr int64_t kHalf = 32 / sizeof(Lane);
    return lane < kHalf ? low[lane] : high[lane - kHalf];
  }
  template <class Other>
  FF_INLINE_MEMBER explicit operator Two<Other>() const {
    return {(Other)low, (Other)high};
  }
};
using f32 = Two<f32x8>;
using i32 = Two<i32x8>;
using u32 = Two<u32x8>;
using u16x32 = Two<u16x16>;
using u8x64 = Two<u8x32>;

#define FF_EACH_HALF(op)                                                     \
  template <class Half>                                                      \
  FF_INLINE Two<Half> operator op(Two<Half> a, Two<Half> b) {                \
    return {a.low op b.low, a.high op b.high};                               \
  }                                                                          \
  template <class Half>                                                      \
  FF_INLINE Two<Half> operator op(Two<Half> a, typename Two<Half>::Lane b) { \
    return {a.low op b, a.high op b};                                        \
  }
FF_EACH_HALF(+)
FF_EACH_HALF(-)
FF_EACH_HALF(*)
FF_EACH_HALF(/)
FF_EACH_HALF(&)
FF_EACH_HALF(|)
FF_EACH_HALF(<<)
FF_EACH_HALF(>>)
#undef FF_EACH_HALF
FF_INLINE u16x32 operator-(uint16_t a, u16x32 b) { return {a - b.low, a - b.high}; }
FF_INLINE f32 operator-(f32 a) { return {-a.low, -a.high}; }
FF_INLINE i32& operator+=(i32& a, i32 b) { return a = a + b; }

FF_INLINE f32 set1(float x) {
  const f32x8 half = _mm256_set1_ps(x);
  return {half, half};
}
FF_INLINE i32 set1(int32_t x) {
  const i32x8 half = (i32x8)_mm256_set1_epi32(x);
  return {half, half};
}
FF_INLINE f32 bits(i32 value) { return {(f32x8)value.low, (f32x8)value.high}; }
FF_INLINE i32 bits(f32 value) { return {(i32x8)value.low, (i32x8)value.high}; }
FF_INLINE f32 load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
FF_INLINE void store(float* to, f32 value) {
  _mm256_storeu_ps(to, value.low);
  _mm256_storeu_ps(to + 8, value.high);
}
FF_INLINE __m256i load_half(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
FF_INLINE __m128i load_quarter(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}
FF_INLINE i32 load_ints(const int32_t* from) {
  return {(i32x8)load_half(from), (i32x8)load_half(from + 8)};
}
// bfloat16 is the upper half of a float32.
FF_INLINE f32 bf16_to_f32(const uint16_t* from) {
  return {(f32x8)_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_quarter(from)), 16),
          (f32x8)_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_quarter(from + 8)), 16)};
}

FF_INLINE f32 fma(f32 a, f32 b, f32 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
FF_INLINE f32 to_f32(i32 value) {
  return {_mm256_cvtepi32_ps((__m256i)value.low), _mm256_cvtepi32_ps((__m256i)value.high)};
}
FF_INLINE i32 to_i32(f32 value) {
  return {(i32x8)_mm256_cvtps_epi32(value.low), (i32x8)_mm256_cvtps_epi32(value.high)};
}
FF_INLINE f32 minimum(f32 a, f32 b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
FF_INLINE f32 maximum(f32 a, f32 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
FF_INLINE i32 maximum(i32 a, i32 b) {
  return {(i32x8)_mm256_max_epi32((__m256i)a.low, (__m256i)b.low),
          (i32x8)_mm256_max_epi32((__m256i)a.high, (__m256i)b.high)};
}
FF_INLINE f32 round_even(f32 value) {
  constexpr int kEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(value.low, kEven), _mm256_round_ps(value.high, kEven)};
}
FF_INLINE f32 zero_where_less(f32 value, f32 x, f32 limit) {
  return {_mm256_and_ps(value.low, _mm256_cmp_ps(x.low, limit.low, _CMP_GE_OQ)),
          _mm256_and_ps(value.high, _mm256_cmp_ps(x.high, limit.high, _CMP_GE_OQ))};
}
FF_INLINE uint32_t lanes_above(f32 a, f32 b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ)) |
                               _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ)) << 8);
}
FF_INLINE f32 keep_first(f32 value, int count, float fill) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 other = _mm256_set1_ps(fill);
  auto kept = [&](f32x8 half, int first) {
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count - first), lane);
    return _mm256_blendv_ps(other, half, _mm256_castsi256_ps(mask));
  };
  return {kept(value.low, 0), kept(value.high, 8)};
}
FF_INLINE f32 half_to_f32(const void* from) {
  const uint8_t* bytes = static_cast<const uint8_t*>(from);
  return {_mm256_cvtph_ps(load_quarter(bytes)), _mm256_cvtph_ps(load_quarter(bytes + 16))};
}
FF_INLINE i32 load_u8(const uint8_t* from) {
  const __m128i bytes = load_quarter(from);
  return {(i32x8)_mm256_cvtepu8_epi32(bytes),
          (i32x8)_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))};
}
FF_INLINE i32 load_s8(const uint8_t* from) {
  const __m128i bytes = load_quarter(from);
  return {(i32x8)_mm256_cvtepi8_epi32(bytes),
          (i32x8)_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes))};
}

FF_INLINE u8x64 load_bytes(const uint8_t* from) {
  return {(u8x32)load_half(from), (u8x32)load_half(from + 32)};
}
FF_INLINE void store_bytes(uint8_t* to, u8x64 value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)value.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), (__m256i)value.high);
}
FF_INLINE u8x64 mask_bytes(u8x64 value, uint8_t mask) {
  const u8x32 wide = (u8x32)_mm256_set1_epi8(static_cast<char>(mask));
  return {value.low & wide, value.high & wide};
}
FF_INLINE u8x64 or_bytes(u8x64 a, u8x64 b) { return {a.low | b.low, a.high | b.high}; }
// Shifts of 16-bit lanes: what crosses a byte border is masked off by every caller.
template <int N>
FF_INLINE u8x64 shift_right(u8x64 value) {
  return {(u8x32)_mm256_srli_epi16((__m256i)value.low, N),
          (u8x32)_mm256_srli_epi16((__m256i)value.high, N)};
}
template <int N>
FF_INLINE u8x64 shift_left(u8x64 value) {
  return {(u8x32)_mm256_slli_epi16((__m256i)value.low, N),
          (u8x32)_mm256_slli_epi16((__m256i)value.high, N)};
}
// Byte `i` of each lane of four.
FF_INLINE i32 byte_of(u8x64 value, int i) {
  auto part = [&](u8x32 half) { return ((i32x8)half >> (8 * i)) & 255; };
  return {part(value.low), part(value.high)};
}
// Each byte, 0 to 15, replaced by its entry of the table.
FF_INLINE u8x64 lookup(const uint8_t* table, u8x64 index) {
  const __m256i entries = _mm256_broadcastsi128_si256(load_quarter(table));
  return {(u8x32)_mm256_shuffle_epi8(entries, (__m256i)index.low),
          (u8x32)_mm256_shuffle_epi8(entries, (__m256i)index.high)};
}

// The dot products of 16 rows with one input over the column groups of a block, from a start.
//
// vpmaddubsw adds two products of an unsigned and a signed byte into 16 bits. Weights of `Bits`
// bits and activations of at most 127 leave room for more such sums before they must be widened:
// eight with 4 bits (8 * 2 * 15 * 127 < 2^15), four with 5, two with 6. Eight bits would saturate:
// there the weight's magnitude without its zero point (at most 128) is multiplied by the activation
// with the weight's sign, and the start, which is there to take the zero point off, is not needed.
template <int Bits, int Groups>
struct Dot {
  static constexpr bool kSigned = Bits == 8;
  static constexpr int kRoom = Bits <= 4 ? 8 : Bits == 5 ? 4 : Bits == 6 ? 2 : 1;
  static constexpr int kRun = kRoom < Groups ? kRoom : Groups;
  __m256i low, high;          // 32 bits
  __m256i run_low, run_high;  // 16 bits

  FF_INLINE_MEMBER void start(int32_t value) {
    low = high = _mm256_set1_epi32(kSigned ? 0 : value);
  }
  // Column group `j` of `Groups`.
  FF_INLINE_MEMBER void add(int j, u8x64 weights, int32_t activations) {
    const __m256i a = _mm256_set1_epi32(activations);
    const __m256i first = product((__m256i)weights.low, a);
    const __m256i second = product((__m256i)weights.high, a);
    const bool begins = j % kRun == 0;
    run_low = begins ? first : _mm256_add_epi16(run_low, first);
    run_high = begins ? second : _mm256_add_epi16(run_high, second);
    if (j % kRun == kRun - 1) widen();
  }
  FF_INLINE_MEMBER i32 sum() const { return {(i32x8)low, (i32x8)high}; }

 private:
  FF_INLINE_MEMBER void widen() {
    const __m256i ones = _mm256_set1_epi16(1);
    low = _mm256_add_epi32(low, _mm256_madd_epi16(run_low, ones));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(run_high, ones));
  }
  static FF_INLINE_MEMBER __m256i product(__m256i weights, __m256i a) {
    if constexpr (!kSigned) return _mm256_maddubs_epi16(weights, a);
    const __m256i value = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(a, value));
  }
};

// acc[row] += sum over i of weights[row * 4 + i] (unsigned) * activation byte i (signed).
FF_INLINE i32 dot4(i32 acc, u8x64 weights, int32_t activations) {
  const __m256i both = _mm256_set1_epi32(activations);
  const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(both, 8), 8);
  const __m256i odd = _mm256_srai_epi16(both, 8);
  auto half = [&](i32x8 sum, u8x32 w) {
    const __m256i low = _mm256_and_si256((__m256i)w, _mm256_set1_epi16(255));
    const __m256i high = _mm256_srli_epi16((__m256i)w, 8);
    return sum + (i32x8)_mm256_madd_epi16(low, even) + (i32x8)_mm256_madd_epi16(high, odd);
  };
  return {half(acc.low, weights.low), half(acc.high, weights.high)};
}
// acc[row] += sum over i of values[row * 4 + i] (signed) * weight byte i (0 to 127).
FF_INLINE i32 dot4_positive(i32 acc, u8x64 values, int32_t weights) {
  const __m256i both = _mm256_set1_epi32(weights), ones = _mm256_set1_epi16(1);
  auto half = [&](i32x8 sum, u8x32 v) {
    return sum + (i32x8)_mm256_madd_epi16(_mm256_maddubs_epi16(both, (__m256i)v), ones);
  };
  return {half(acc.low, values.low), half(acc.high, values.high)};
}

// The upper half onto the lower until one is left.
FF_INLINE float reduce_add(f32 value) {
  const __m256 eight = value.low + value.high;
  const __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
  const __m128 two = four + _mm_movehl_ps(four, four);
  return _mm_cvtss_f32(two + _mm_movehdup_ps(two));
}
FF_INLINE int32_t reduce_add(i32 value) {
  const __m256i eight = (__m256i)(value.low + value.high);
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}
FF_INLINE float reduce_max(f32 value) {
  const __m256 eight = _mm256_max_ps(value.low, value.high);
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}
// The float whose bits are the largest of both.
FF_INLINE float reduce_top(i32 a, i32 b) {
  const __m256i eight = _mm256_max_epi32(_mm256_max_epi32((__m256i)a.low, (__m256i)a.high),
                                         _mm256_max_epi32((__m256i)b.low, (__m256i)b.high));
  __m128i top = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));
  top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(top));
}
// The low byte of each lane, 16 bytes. Lanes are those of a signed byte.
FF_INLINE void store_low_bytes(void* to, i32 value) {
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)value.low, (__m256i)value.high), 0xd8);
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm_packs_epi16(_mm256_castsi256_si128(words),
                                                              _mm256_extracti128_si256(words, 1)));
}
// The upper halves of lanes whose lower halves are zero, side by side.
FF_INLINE void store_upper_halves(void* to, i32 value) {
  const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32((__m256i)value.low, 16),
                                             _mm256_srli_epi32((__m256i)value.high, 16));
  _mm256_storeu_si256(static_cast<__m256i*>(to), _mm256_permute4x64_epi64(packed, 0xd8));
}
// To the nearest bfloat16, ties to even, sixteen side by side; returns what they stand for.
FF_INLINE f32 put_bf16(void* to, f32 value) {
  const i32 raw = bits(value), near = raw + ((raw >> 16 & 1) + 0x7fff), quiet = raw | 0x00400000;
  auto half = [](f32x8 x, i32x8 number, i32x8 otherwise) {
    return (i32x8)_mm256_blendv_ps((__m256)number, (__m256)otherwise,
                                   _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  };
  const i32 rounded =
      i32{half(value.low, near.low, quiet.low), half(value.high, near.high, quiet.high)} & -65536;
  store_upper_halves(to, rounded);
  return bits(rounded);
}
// Two bfloat16 a lane, as the float32 that they stand for.
struct Pairs {
  f32 first, second;
};
FF_INLINE Pairs load_bf16_pairs(const uint8_t* from) {
  const i32 raw = {(i32x8)load_half(from), (i32x8)load_half(from + 32)};
  return {bits(raw << 16), bits(raw & -65536)};
}
// acc + the second product of each lane, + the first.
FF_INLINE f32 dot2(f32 acc, Pairs pairs, int32_t word) {
  const __m256i both = _mm256_set1_epi32(word);
  const f32x8 first = (f32x8)_mm256_slli_epi32(both, 16);
  const f32x8 second = (f32x8)_mm256_and_si256(both, _mm256_set1_epi32(-65536));
  acc = fma(pairs.second, {second, second}, acc);
  return fma(pairs.first, {first, first}, acc);
}
#include "../int8_by_lanes.inl"
