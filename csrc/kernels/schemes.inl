// How each scheme's panel block gives up its weights and scales. Included inside an ISA's
// namespace.
//
// weights(group, i, j): columns 4j to 4j+3 of block i of the group, unsigned.
// scale(group, i, half): float32 scale of the 16 rows; kHalves = 2 where it changes after 16
// columns. Symmetric schemes have kZeroShift (zero point 1 << kZeroShift); others offset(group, i,
// half), kOffsets a block. kBits is the width of a weight.

struct W4 {
  FF_INLINE u8x64 nibbles(const uint8_t* plane, int j) {
    const u8x64 raw = load_bytes(plane + (j & 3) * 64);
    return mask_bytes(j < 4 ? raw : shift_right<4>(raw), 15);
  }
};

template <int Left>
FF_INLINE u8x64 shift(u8x64 value) {
  if constexpr (Left > 0) return shift_left<Left>(value);
  if constexpr (Left < 0) return shift_right<-Left>(value);
  return value;
}

// Bit `To` of group j from a plane whose byte (row, i) holds bit g for column 4g + i.
template <int To>
FF_INLINE u8x64 plane_bit(const uint8_t* plane, int j) {
  const u8x64 raw = load_bytes(plane);
  u8x64 moved;
  switch (j) {
    case 0:
      moved = shift<To>(raw);
      break;
    case 1:
      moved = shift<To - 1>(raw);
      break;
    case 2:
      moved = shift<To - 2>(raw);
      break;
    case 3:
      moved = shift<To - 3>(raw);
      break;
    case 4:
      moved = shift<To - 4>(raw);
      break;
    case 5:
      moved = shift<To - 5>(raw);
      break;
    case 6:
      moved = shift<To - 6>(raw);
      break;
    default:
      moved = shift<To - 7>(raw);
      break;
  }
  return mask_bytes(moved, 1 << To);
}

// Bits `To` and `To + 1` of group j from two planes: groups 0 to 3 and 4 to 7, two bits a group.
template <int To>
FF_INLINE u8x64 plane_two_bits(const uint8_t* planes, int j) {
  const u8x64 raw = load_bytes(planes + (j >> 2) * 64);
  u8x64 moved;
  switch (j & 3) {
    case 0:
      moved = shift<To>(raw);
      break;
    case 1:
      moved = shift<To - 2>(raw);
      break;
    case 2:
      moved = shift<To - 4>(raw);
      break;
    default:
      moved = shift<To - 6>(raw);
      break;
  }
  return mask_bytes(moved, 3 << To);
}

template <Scheme S, int ZeroShift>
struct SymmetricScheme {
  static constexpr int kBits = ZeroShift + 1;
  static constexpr Scheme kScheme = S;
  static constexpr int kGroup = kSchemes[static_cast<int>(S)].group;
  static constexpr int kGroupBytes = kSchemes[static_cast<int>(S)].group_bytes;
  static constexpr int kBlockBytes = kGroupBytes / kGroup;
  static constexpr int kHalves = 1;
  static constexpr int kOffsets = 0;
  static constexpr int kZeroShift = ZeroShift;
  FF_INLINE f32 offset(const uint8_t*, int, int) { return f32{}; }
};

template <Scheme S, int Bits>
struct OffsetScheme {
  static constexpr int kBits = Bits;
  static constexpr Scheme kScheme = S;
  static constexpr int kGroup = kSchemes[static_cast<int>(S)].group;
  static constexpr int kGroupBytes = kSchemes[static_cast<int>(S)].group_bytes;
  static constexpr int kBlockBytes = kGroupBytes / kGroup;
  static constexpr int kHalves = 1;
  static constexpr int kOffsets = 1;
  static constexpr int kZeroShift = 0;
};

struct Q4_0 : SymmetricScheme<Scheme::Q4_0, 3> {
  FF_INLINE u8x64 weights(const uint8_t* g, int, int j) { return W4::nibbles(g, j); }
  FF_INLINE f32 scale(const uint8_t* g, int, int) { return half_to_f32(g + 256); }
};

struct Q4_1 : OffsetScheme<Scheme::Q4_1, 4> {
  FF_INLINE u8x64 weights(const uint8_t* g, int, int j) { return W4::nibbles(g, j); }
  FF_INLINE f32 scale(const uint8_t* g, int, int) { return half_to_f32(g + 256); }
  FF_INLINE f32 offset(const uint8_t* g, int, int) { return half_to_f32(g + 288); }
};

struct Q5_0 : SymmetricScheme<Scheme::Q5_0, 4> {
  FF_INLINE u8x64 weights(const uint8_t* g, int, int j) {
    return or_bytes(W4::nibbles(g, j), plane_bit<4>(g + 256, j));
  }
  FF_INLINE f32 scale(const uint8_t* g, int, int) { return half_to_f32(g + 320); }
};

struct Q5_1 : OffsetScheme<Scheme::Q5_1, 5> {
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) { return Q5_0::weights(g, i, j); }
  FF_INLINE f32 scale(const uint8_t* g, int, int) { return half_to_f32(g + 320); }
  FF_INLINE f32 offset(const uint8_t* g, int, int) { return half_to_f32(g + 352); }
};

struct Q8_0 : SymmetricScheme<Scheme::Q8_0, 7> {
  FF_INLINE u8x64 weights(const uint8_t* g, int, int j) { return load_bytes(g + j * 64); }
  FF_INLINE f32 scale(const uint8_t* g, int, int) { return half_to_f32(g + 512); }
};

// One scale a row, before the panel's blocks: all of them are one group.
struct I8 : SymmetricScheme<Scheme::I8, 7> {
  static constexpr int kGroup = INT32_MAX;
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) {
    return load_bytes(g + 64 + int64_t{i} * 512 + j * 64);
  }
  FF_INLINE f32 scale(const uint8_t* g, int, int) {
    return load(reinterpret_cast<const float*>(g));
  }
};

// Super-block scale times scale of a few bits: exact in float32, here and in all K-quants.
struct Q2_K : OffsetScheme<Scheme::Q2_K, 2> {
  static constexpr int kHalves = 2;
  static constexpr int kOffsets = 2;
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) {
    return plane_two_bits<0>(g + 320 + i * 128, j);
  }
  FF_INLINE f32 scale(const uint8_t* g, int i, int half) {
    return half_to_f32(g) * to_f32(load_u8(g + 64 + (2 * i + half) * 16) & 15);
  }
  FF_INLINE f32 offset(const uint8_t* g, int i, int half) {
    return -(half_to_f32(g + 32) * to_f32(load_u8(g + 64 + (2 * i + half) * 16) >> 4));
  }
};

struct Q3_K : SymmetricScheme<Scheme::Q3_K, 2> {
  static constexpr int kHalves = 2;
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) {
    return or_bytes(plane_two_bits<0>(g + 320 + i * 192, j), plane_bit<2>(g + 448 + i * 192, j));
  }
  FF_INLINE f32 scale(const uint8_t* g, int i, int half) {
    return half_to_f32(g) * to_f32(load_s8(g + 32 + (2 * i + half) * 16));
  }
};

struct Q4_K : OffsetScheme<Scheme::Q4_K, 4> {
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) {
    return W4::nibbles(g + 320 + i * 256, j);
  }
  FF_INLINE f32 scale(const uint8_t* g, int i, int) {
    return half_to_f32(g) * to_f32(load_u8(g + 64 + i * 16));
  }
  FF_INLINE f32 offset(const uint8_t* g, int i, int) {
    return -(half_to_f32(g + 32) * to_f32(load_u8(g + 192 + i * 16)));
  }
};

struct Q5_K : OffsetScheme<Scheme::Q5_K, 5> {
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) {
    return or_bytes(W4::nibbles(g + 320 + i * 320, j), plane_bit<4>(g + 576 + i * 320, j));
  }
  FF_INLINE f32 scale(const uint8_t* g, int i, int half) { return Q4_K::scale(g, i, half); }
  FF_INLINE f32 offset(const uint8_t* g, int i, int) { return Q4_K::offset(g, i, 0); }
};

struct Q6_K : SymmetricScheme<Scheme::Q6_K, 5> {
  static constexpr int kHalves = 2;
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) {
    return or_bytes(W4::nibbles(g + 320 + i * 384, j), plane_two_bits<4>(g + 576 + i * 384, j));
  }
  FF_INLINE f32 scale(const uint8_t* g, int i, int half) {
    return half_to_f32(g) * to_f32(load_s8(g + 32 + (2 * i + half) * 16));
  }
};

// Nibbles that stand for sixteen values, denser around zero; 128 is added.
alignas(16) static constexpr uint8_t kSpread[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                    129, 141, 153, 166, 181, 197, 217, 241};

struct IQ4_NL : SymmetricScheme<Scheme::IQ4_NL, 7> {
  FF_INLINE u8x64 weights(const uint8_t* g, int, int j) {
    return lookup(kSpread, W4::nibbles(g, j));
  }
  FF_INLINE f32 scale(const uint8_t* g, int, int) { return half_to_f32(g + 256); }
};

struct IQ4_XS : SymmetricScheme<Scheme::IQ4_XS, 7> {
  FF_INLINE u8x64 weights(const uint8_t* g, int i, int j) {
    return lookup(kSpread, W4::nibbles(g + 192 + i * 256, j));
  }
  FF_INLINE f32 scale(const uint8_t* g, int i, int) {
    return half_to_f32(g) * to_f32(load_s8(g + 32 + i * 16));
  }
};

// Float weights: columns one after the other, 16 rows each.
template <Scheme S>
struct FloatScheme {
  static constexpr Scheme kScheme = S;
  FF_INLINE f32 column(const uint8_t* panel, int64_t k) {
    if constexpr (S == Scheme::F32) return load(reinterpret_cast<const float*>(panel) + 16 * k);
    if constexpr (S == Scheme::F16) return half_to_f32(panel + 32 * k);
    return bf16_to_f32(reinterpret_cast<const uint16_t*>(panel + 32 * k));
  }
};

// Calls body(S{}) with the scheme's type.
template <class Body>
static inline void with_scheme(Scheme scheme, Body&& body) {
  switch (scheme) {
    case Scheme::F32:
      return body(FloatScheme<Scheme::F32>{});
    case Scheme::F16:
      return body(FloatScheme<Scheme::F16>{});
    case Scheme::BF16:
      return body(FloatScheme<Scheme::BF16>{});
    case Scheme::I8:
      return body(I8{});
    case Scheme::Q4_0:
      return body(Q4_0{});
    case Scheme::Q4_1:
      return body(Q4_1{});
    case Scheme::Q5_0:
      return body(Q5_0{});
    case Scheme::Q5_1:
      return body(Q5_1{});
    case Scheme::Q8_0:
      return body(Q8_0{});
    case Scheme::Q2_K:
      return body(Q2_K{});
    case Scheme::Q3_K:
      return body(Q3_K{});
    case Scheme::Q4_K:
      return body(Q4_K{});
    case Scheme::Q5_K:
      return body(Q5_K{});
    case Scheme::Q6_K:
      return body(Q6_K{});
    case Scheme::IQ4_NL:
      return body(IQ4_NL{});
    case Scheme::IQ4_XS:
      return body(IQ4_XS{});
  }
}
