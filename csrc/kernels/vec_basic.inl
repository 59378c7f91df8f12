// What operations on the compiler's vector types build on. Included first inside an ISA's
// namespace.

// Written out: `f32{} + value` would be a real addition, for the sake of -0.
FF_INLINE f32 set1(float x) { return f32{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
FF_INLINE i32 set1(int32_t x) { return i32{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
FF_INLINE f32 bits(i32 value) {
  f32 same;
  std::memcpy(&same, &value, 64);
  return same;
}
FF_INLINE i32 bits(f32 value) {
  i32 same;
  std::memcpy(&same, &value, 64);
  return same;
}
FF_INLINE f32 load(const float* from) {
  f32 value;
  std::memcpy(&value, from, 64);
  return value;
}
FF_INLINE i32 load_ints(const int32_t* from) {
  i32 value;
  std::memcpy(&value, from, 64);
  return value;
}
FF_INLINE void store(float* to, f32 value) { std::memcpy(to, &value, 64); }

// bfloat16 is the upper half of a float32.
FF_INLINE f32 bf16_to_f32(const uint16_t* from) {
  u16x16 raw;
  std::memcpy(&raw, from, 32);
  return bits((i32)(__builtin_convertvector(raw, u32) << 16));
}

FF_INLINE i32 maximum(i32 a, i32 b) { return a > b ? a : b; }

// Two bfloat16 a lane, as they lie in memory.
using Pairs = u32;
FF_INLINE Pairs load_bf16_pairs(const uint8_t* from) {
  Pairs pairs;
  std::memcpy(&pairs, from, 64);
  return pairs;
}

// Byte `i` of each lane of four.
FF_INLINE i32 byte_of(u8x64 value, int i) { return (i32)(((u32)value >> (8 * i)) & 255); }

// The dot products of 16 rows with one input over `Groups` column groups, from a start; weights of
// `Bits` bits. Here neither matters.
FF_INLINE i32 dot4(i32 acc, u8x64 weights, int32_t activations);
template <int Bits, int Groups>
struct Dot {
  i32 total;
  FF_INLINE_MEMBER void start(int32_t value) { total = set1(value); }
  FF_INLINE_MEMBER void add(int, u8x64 weights, int32_t activations) {
    total = dot4(total, weights, activations);
  }
  FF_INLINE_MEMBER i32 sum() const { return total; }
};
