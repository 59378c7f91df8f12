// The lane operations for any target, left to the compiler's vectoriser.

FF_INLINE f32 fma(f32 a, f32 b, f32 c) { return a * b + c; }
FF_INLINE f32 to_f32(i32 value) { return __builtin_convertvector(value, f32); }
FF_INLINE i32 to_i32(f32 value) { return __builtin_convertvector(value, i32); }
FF_INLINE f32 minimum(f32 a, f32 b) { return a < b ? a : b; }
FF_INLINE f32 maximum(f32 a, f32 b) { return a > b ? a : b; }

// Adding 1.5 * 2^23 leaves the value rounded to even in the low bits; exact for |x| < 2^22.
FF_INLINE f32 round_even(f32 value) {
  const f32 magic = set1(12582912.0f);
  return (value + magic) - magic;
}

FF_INLINE f32 zero_where_less(f32 value, f32 x, f32 limit) {
  return bits(bits(value) & (i32)(x >= limit));
}

// Bit i is set where a[i] > b[i].
FF_INLINE uint32_t lanes_above(f32 a, f32 b) {
  const i32 weights = {1 << 0, 1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                       1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
  const i32 found = (i32)(a > b) & weights;
  uint32_t lanes = 0;
  for (int i = 0; i < 16; ++i) lanes |= static_cast<uint32_t>(found[i]);
  return lanes;
}

FF_INLINE f32 keep_first(f32 value, int count, float fill) {
  const i32 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return (lane < set1(count)) ? value : set1(fill);
}

// Finite float16 values: shift the exponent into place, then scale by 2^112 (denormals come right).
FF_INLINE f32 half_to_f32(const void* from) {
  u16x16 raw;
  std::memcpy(&raw, from, 32);
  const u32 wide = __builtin_convertvector(raw, u32);
  const f32 magnitude = bits((i32)((wide & 0x7fff) << 13)) * set1(5.192296858534828e33f);
  return bits(bits(magnitude) | (i32)((wide & 0x8000) << 16));
}

FF_INLINE i32 load_u8(const uint8_t* from) {
  i32 value;
  for (int i = 0; i < 16; ++i) value[i] = from[i];
  return value;
}

FF_INLINE i32 load_s8(const uint8_t* from) {
  i32 value;
  for (int i = 0; i < 16; ++i) value[i] = static_cast<int8_t>(from[i]);
  return value;
}

FF_INLINE u8x64 load_bytes(const uint8_t* from) {
  u8x64 value;
  std::memcpy(&value, from, 64);
  return value;
}
FF_INLINE void store_bytes(uint8_t* to, u8x64 value) { std::memcpy(to, &value, 64); }
FF_INLINE u8x64 mask_bytes(u8x64 value, uint8_t mask) { return value & mask; }
FF_INLINE u8x64 or_bytes(u8x64 a, u8x64 b) { return a | b; }
template <int N>
FF_INLINE u8x64 shift_right(u8x64 value) {
  return value >> N;
}
template <int N>
FF_INLINE u8x64 shift_left(u8x64 value) {
  return value << N;
}

// Each byte, 0 to 15, replaced by its entry of the table.
FF_INLINE u8x64 lookup(const uint8_t* table, u8x64 index) {
  uint8_t bytes[64];
  std::memcpy(bytes, &index, 64);
  for (int i = 0; i < 64; ++i) bytes[i] = table[bytes[i]];
  return load_bytes(bytes);
}

// acc[row] += sum over i of weights[row * 4 + i] (unsigned) * activation byte i (signed).
FF_INLINE i32 dot4(i32 acc, u8x64 weights, int32_t activations) {
  const u32 w = (u32)weights;
  for (int i = 0; i < 4; ++i)
    acc += (i32)((w >> (8 * i)) & 255) * static_cast<int8_t>(activations >> (8 * i));
  return acc;
}

// acc[row] += sum over i of values[row * 4 + i] (signed) * weight byte i (0 to 127).
FF_INLINE i32 dot4_positive(i32 acc, u8x64 values, int32_t weights) {
  const i32 v = (i32)values;
  for (int i = 0; i < 4; ++i)
    acc += (v << (24 - 8 * i) >> 24) * static_cast<int8_t>(weights >> (8 * i));
  return acc;
}

// A fixed tree, so that every path adds in the same order.
FF_INLINE float reduce_add(f32 value) {
  float lanes[16];
  std::memcpy(lanes, &value, 64);
  for (int step = 8; step >= 1; step /= 2)
    for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  return lanes[0];
}

FF_INLINE int32_t reduce_add(i32 value) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += value[i];
  return sum;
}

FF_INLINE float reduce_max(f32 value) {
  float best = value[0];
  for (int i = 1; i < 16; ++i) best = value[i] > best ? value[i] : best;
  return best;
}

// The float whose bits are the largest of both.
FF_INLINE float reduce_top(i32 a, i32 b) {
  const i32 both = a > b ? a : b;
  int32_t best = both[0];
  for (int i = 1; i < 16; ++i) best = both[i] > best ? both[i] : best;
  float same;
  std::memcpy(&same, &best, 4);
  return same;
}

// The low byte of each lane, 16 bytes.
FF_INLINE void store_low_bytes(void* to, i32 value) {
  uint8_t* bytes = static_cast<uint8_t*>(to);
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(value[i]);
}

#include "bf16_by_float.inl"
#include "int8_by_lanes.inl"
