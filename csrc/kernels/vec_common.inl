// Lane operations that need no instruction of their own. Included inside an ISA's namespace.

// e^x to about 2 units in the last place; 0 below -87 and for NaN, e^88 above 88.
// Cody-Waite reduction by ln 2 in two parts, then the Taylor polynomial of degree 6 on
// [-ln2/2, ln2/2] (relative error at most r^7/5040 = 1.2e-7).
FF_INLINE f32 exp(f32 x) {
  const f32 low = set1(-87.0f);
  const f32 clamped = minimum(maximum(x, low), set1(88.0f));
  const f32 n = round_even(clamped * set1(1.44269504088896f));
  f32 r = fma(n, set1(-0.693359375f), clamped);
  r = fma(n, set1(2.12194440e-4f), r);
  f32 p = set1(1.0f / 720);
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  const i32 power = (to_i32(n) + 127) << 23;
  return zero_where_less(p * bits(power), x, low);
}

constexpr float kLog2E = 1.44269504088896f;

// 2^x for x up to 127, to about 2 units in the last place; 0 below -125 and for NaN. Taylor
// polynomial of degree 6 on [-1/2, 1/2] (relative error at most (ln 2 / 2)^7 / 5040 = 1.2e-7).
FF_INLINE f32 exp2(f32 x) {
  const f32 low = set1(-125.0f);
  const f32 clamped = maximum(x, low);
  const f32 n = round_even(clamped);
  const f32 r = clamped - n;
  f32 p = set1(1.5403530393381608e-4f);
  p = fma(p, r, set1(1.3333558146428443e-3f));
  p = fma(p, r, set1(9.618129107628477e-3f));
  p = fma(p, r, set1(5.550410866482158e-2f));
  p = fma(p, r, set1(2.402265069591007e-1f));
  p = fma(p, r, set1(6.931471805599453e-1f));
  p = fma(p, r, set1(1.0f));
  return zero_where_less(bits(bits(p) + (to_i32(n) << 23)), x, low);
}

// Calls body(std::integral_constant<int, width>) for a width of 1 to M.
template <int M = kTile, class Body>
FF_INLINE void with_width(int width, Body&& body) {
  if constexpr (M == 1) {
    body(std::integral_constant<int, 1>{});
  } else {
    if (width == M) return body(std::integral_constant<int, M>{});
    with_width<M - 1>(width, static_cast<Body&&>(body));
  }
}

// cap * tanh(x / cap), tanh(y) being 1 - 2 / (e^2y + 1). `y - y` keeps NaN, which exp does not.
FF_INLINE f32 soft_cap_of(f32 x, float cap) {
  const f32 y = x / set1(cap), one = set1(1.0f);
  const f32 tanh = one - set1(2.0f) / (exp(y + y) + one);
  return set1(cap) * (tanh + (y - y));
}

FF_INLINE void soft_cap(float* x, int64_t n, float cap) {
  for (int64_t k = 0; k < n; k += 16) store(x + k, soft_cap_of(load(x + k), cap));
}
