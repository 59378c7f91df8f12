// What every ISA's own operations build on. Included first inside an ISA's namespace.

FF_INLINE f32 set1(float value) { return f32{} + value; }
FF_INLINE i32 set1(int32_t value) { return i32{} + value; }
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
