// The lane operations for AVX-512 with VNNI: the only file with x86 intrinsics.

FF_INLINE f32 fma(f32 a, f32 b, f32 c) { return _mm512_fmadd_ps(a, b, c); }
FF_INLINE f32 to_f32(i32 value) { return _mm512_cvtepi32_ps((__m512i)value); }
FF_INLINE i32 to_i32(f32 value) { return (i32)_mm512_cvtps_epi32(value); }
FF_INLINE f32 minimum(f32 a, f32 b) { return _mm512_min_ps(a, b); }
FF_INLINE f32 maximum(f32 a, f32 b) { return _mm512_max_ps(a, b); }
FF_INLINE f32 round_even(f32 value) {
  return _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
FF_INLINE f32 zero_where_less(f32 value, f32 x, f32 limit) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), value);
}
FF_INLINE uint32_t lanes_above(f32 a, f32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
FF_INLINE f32 keep_first(f32 value, int count, float fill) {
  const unsigned mask = count >= 16 ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1;
  return _mm512_mask_mov_ps(_mm512_set1_ps(fill), static_cast<__mmask16>(mask), value);
}
FF_INLINE f32 half_to_f32(const void* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
}
FF_INLINE i32 load_u8(const uint8_t* from) {
  return (i32)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
FF_INLINE i32 load_s8(const uint8_t* from) {
  return (i32)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
FF_INLINE u8x64 load_bytes(const uint8_t* from) { return (u8x64)_mm512_loadu_si512(from); }
FF_INLINE void store_bytes(uint8_t* to, u8x64 value) { _mm512_storeu_si512(to, (__m512i)value); }
FF_INLINE u8x64 mask_bytes(u8x64 value, uint8_t mask) {
  return (u8x64)_mm512_and_si512((__m512i)value, _mm512_set1_epi8(static_cast<char>(mask)));
}
FF_INLINE u8x64 or_bytes(u8x64 a, u8x64 b) {
  return (u8x64)_mm512_or_si512((__m512i)a, (__m512i)b);
}
// Shifts of 16-bit lanes: what crosses a byte border is masked off by every caller.
template <int N>
FF_INLINE u8x64 shift_right(u8x64 value) {
  return (u8x64)_mm512_srli_epi16((__m512i)value, N);
}
template <int N>
FF_INLINE u8x64 shift_left(u8x64 value) {
  return (u8x64)_mm512_slli_epi16((__m512i)value, N);
}
// Each byte, 0 to 15, replaced by its entry of the table.
FF_INLINE u8x64 lookup(const uint8_t* table, u8x64 index) {
  const __m512i entries =
      _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
  return (u8x64)_mm512_shuffle_epi8(entries, (__m512i)index);
}
FF_INLINE i32 dot4(i32 acc, u8x64 weights, int32_t activations) {
  return (i32)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)weights, _mm512_set1_epi32(activations));
}
FF_INLINE i32 dot4_positive(i32 acc, u8x64 values, int32_t weights) {
  return (i32)_mm512_dpbusd_epi32((__m512i)acc, _mm512_set1_epi32(weights), (__m512i)values);
}
FF_INLINE float reduce_add(f32 value) { return _mm512_reduce_add_ps(value); }
FF_INLINE int32_t reduce_add(i32 value) { return _mm512_reduce_add_epi32((__m512i)value); }
FF_INLINE float reduce_max(f32 value) { return _mm512_reduce_max_ps(value); }
// The float whose bits are the largest of both.
FF_INLINE float reduce_top(i32 a, i32 b) {
  const int best = _mm512_reduce_max_epi32(_mm512_max_epi32((__m512i)a, (__m512i)b));
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(best)));
}
// The low byte of each lane, 16 bytes.
FF_INLINE void store_low_bytes(void* to, i32 value) {
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)value));
}
// 32 numbers of at most 127 to the nearest whole, ties to even, as bytes; and the sum of each half.
FF_INLINE void put_int8(f32 first, f32 second, int32_t words[8], int32_t sums[2]) {
  const __m256i bytes =
      _mm256_inserti128_si256(_mm256_castsi128_si256(_mm512_cvtepi32_epi8((__m512i)to_i32(first))),
                              _mm512_cvtepi32_epi8((__m512i)to_i32(second)), 1);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), bytes);
  __m256i quarters = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
  quarters = _mm256_hadd_epi32(quarters, quarters);
  quarters = _mm256_hadd_epi32(quarters, quarters);
  sums[0] = _mm256_cvtsi256_si32(quarters);
  sums[1] = _mm256_extract_epi32(quarters, 4);
}
#ifdef __AVX512BF16__
FF_INLINE f32 dot2(f32 acc, u32 pairs, int32_t word) {
  return _mm512_dpbf16_ps(acc, (__m512bh)pairs, (__m512bh)_mm512_set1_epi32(word));
}
FF_INLINE f32 put_bf16(void* to, f32 value) {
  const __m256i halves = (__m256i)_mm512_cvtneps_pbh(value);
  _mm256_storeu_si256(static_cast<__m256i*>(to), halves);
  return (f32)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}
#else
#include "../bf16_by_float.inl"
#endif
