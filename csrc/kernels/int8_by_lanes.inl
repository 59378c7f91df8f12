// Rounding to int8 for instruction sets without a dot product of bytes.

// 32 numbers of at most 127 to the nearest whole, ties to even, as bytes; and the sum of each half.
FF_INLINE void put_int8(f32 first, f32 second, int32_t words[8], int32_t sums[2]) {
  const i32 halves[2] = {to_i32(round_even(first)), to_i32(round_even(second))};
  for (int half = 0; half < 2; ++half) {
    store_low_bytes(words + 4 * half, halves[half]);
    sums[half] = reduce_add(halves[half]);
  }
}
