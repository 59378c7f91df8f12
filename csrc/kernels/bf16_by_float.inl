// bfloat16 for instruction sets without it.

// To the nearest bfloat16, ties to even, sixteen side by side; returns what they stand for.
FF_INLINE f32 put_bf16(void* to, f32 value) {
  const u32 raw = (u32)bits(value);
  const i32 near = (i32)((raw + 0x7fff + ((raw >> 16) & 1)) & 0xffff0000u);
  const i32 rounded =
      (i32)(raw & 0x7fffffff) > 0x7f800000 ? (i32)((raw | 0x00400000) & 0xffff0000u) : near;
  const u16x16 halves = __builtin_convertvector((u32)rounded >> 16, u16x16);
  std::memcpy(to, &halves, 32);
  return bits(rounded);
}

// acc + the second bfloat16 product of each lane, + the first.
FF_INLINE f32 dot2(f32 acc, u32 pairs, int32_t word) {
  float first, second;
  const int32_t low = static_cast<int32_t>(static_cast<uint32_t>(word) << 16);
  const int32_t high = static_cast<int32_t>(word & 0xffff0000u);
  std::memcpy(&first, &low, 4);
  std::memcpy(&second, &high, 4);
  acc = fma(bits((i32)(pairs & 0xffff0000u)), set1(second), acc);
  return fma(bits((i32)(pairs << 16)), set1(first), acc);
}
