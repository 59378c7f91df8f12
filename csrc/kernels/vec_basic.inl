// What every ISA's own operations build on. Included first inside an ISA's namespace.

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
