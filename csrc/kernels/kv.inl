// The paged KV cache: what a head of a block looks like. Included by attention.inl.
//
// Cache types. A vector has 16 lanes: the tokens of a block for a key, dims for a value. Each lane
// holds kPer neighbours (dims of a key, tokens of a value) which one `madd` multiplies and adds,
// the second first: what the bfloat16 dot product of x86 does. Products of bfloat16 are exact in
// float32, so fused or not, the sum is the same.

struct KvF32 {
  // Neighbours in a lane, bytes of a vector, queries or weights in a word of theirs.
  static constexpr int kPer = 1, kBytes = 64, kPerWord = 1;
  static constexpr bool kScaled = false;
  using Element = float;
  FF_INLINE f32 load_vector(const uint8_t* from) {
    return load(reinterpret_cast<const float*>(from));
  }
  FF_INLINE f32 madd(f32 acc, f32 vector, int32_t word) {
    float x;
    std::memcpy(&x, &word, 4);
    return fma(set1(x), vector, acc);
  }
  FF_INLINE f32 put_words(int32_t* to, f32 values) {  // returns what was put
    std::memcpy(to, &values, 64);
    return values;
  }
};

struct KvBf16 {
  static constexpr int kPer = 2, kBytes = 64, kPerWord = 2;
  static constexpr bool kScaled = false;
  using Element = uint16_t;
  FF_INLINE Pairs load_vector(const uint8_t* from) { return load_bf16_pairs(from); }
  FF_INLINE f32 madd(f32 acc, Pairs pairs, int32_t word) { return dot2(acc, pairs, word); }
  FF_INLINE f32 put_words(int32_t* to, f32 values) { return put_bf16(to, values); }
};

// Whole numbers, with a float32 scale for each token and head behind them; keys plus 128, unsigned.
// Queries and weights are whole numbers too, of 15 and 14 bits, in two planes of seven
// (attention_int8.inl).
struct KvInt8 {
  static constexpr int kPer = 4, kBytes = 64, kPerWord = 2;
  static constexpr bool kScaled = true;
  using Element = uint8_t;
};

constexpr int kFewRows = 6;  // up to so many rows, reading is what takes the time

// One head of one block: keys, values, then 16 scales of each where there are any.
template <class Kv>
struct KvHead {
  uint8_t* base;
  int dim;
  const uint8_t* ahead = nullptr;  // what is read kBlocksAhead blocks later

  void prefetch(int64_t index) const { __builtin_prefetch(ahead + index * Kv::kBytes, 0, 2); }

  int64_t num_vectors() const { return dim / Kv::kPer; }  // of the keys, and of the values
  const uint8_t* keys(int64_t index) const { return base + index * Kv::kBytes; }
  const uint8_t* values(int64_t index) const { return keys(num_vectors() + index); }
  float* scales(bool is_value) const {
    return reinterpret_cast<float*>(base + 2 * num_vectors() * Kv::kBytes) + (is_value ? 16 : 0);
  }
  // The element of dim d of the token in place `at`.
  typename Kv::Element* element(bool is_value, int d, int at) const {
    constexpr int kPer = Kv::kPer;
    auto* first = reinterpret_cast<typename Kv::Element*>(base);
    if (!is_value) return first + (d / kPer * 16 + at) * kPer + d % kPer;
    const int64_t vector = num_vectors() + at / kPer * (dim / 16) + d / 16;
    return first + (vector * 16 + d % 16) * kPer + at % kPer;
  }
};

// Calls body(Kv{}) with the cache's type.
template <class Body>
FF_INLINE void with_kv(KvType type, Body&& body) {
  switch (type) {
    case KvType::F32:
      return body(KvF32{});
    case KvType::Bf16:
      return body(KvBf16{});
    case KvType::Int8:
      return body(KvInt8{});
  }
}

static int64_t kv_head_bytes(KvType type, int head_dim) {
  int64_t bytes = 0;
  with_kv(type, [&](auto kv) {
    using Kv = decltype(kv);
    bytes = int64_t{2} * (head_dim / Kv::kPer) * Kv::kBytes + (Kv::kScaled ? 2 * 16 * 4 : 0);
  });
  return bytes;
}

static void prefetch_kv(const KvLayer& layer, const AttnShape& shape, int64_t slot, int kv_head,
                        bool is_value) {
  const int dim = shape.head_dim, at = static_cast<int>(slot % kKvBlock);
  with_kv(shape.kv_type, [&](auto type) {
    using Kv = decltype(type);
    const KvHead<Kv> head{layer.head(slot / kKvBlock, kv_head), dim};
    const uint8_t* from = is_value ? head.values(at / Kv::kPer * (dim / 16)) : head.keys(0);
    const int64_t bytes = (is_value ? dim / 16 : head.num_vectors()) * Kv::kBytes;
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line, 1, 2);
    if (Kv::kScaled) __builtin_prefetch(head.scales(is_value), 1, 2);
  });
}

// A bfloat16 value in the first place of a lane clears the second: it is read with weight zero
// before it is written, and must not be what an earlier owner of the block left there (NaN, say).
static void store_kv(const KvLayer& layer, const AttnShape& shape, int64_t slot, int kv_head,
                     bool is_value, const float* row) {
  const int dim = shape.head_dim, at = static_cast<int>(slot % kKvBlock);
  with_kv(shape.kv_type, [&](auto type) {
    using Kv = decltype(type);
    using Element = typename Kv::Element;
    const KvHead<Kv> head{layer.head(slot / kKvBlock, kv_head), dim};
    auto put = [&](const auto* from) {
      for (int d = 0; d < dim; ++d) *head.element(is_value, d, at) = static_cast<Element>(from[d]);
    };
    if constexpr (std::is_same_v<Kv, KvF32>) {
      put(row);
    } else if constexpr (std::is_same_v<Kv, KvBf16>) {
      alignas(64) uint16_t rounded[512];
      for (int d = 0; d < dim; d += 16) {
        const i32 upper = bits(put_bf16(rounded + d, load(row + d)));
        if (!is_value) continue;
        auto* to = reinterpret_cast<int32_t*>(head.element(true, d, at - at % 2));
        const i32 pairs = at % 2 ? (load_ints(to) & 0xffff) | upper : (upper >> 16) & 0xffff;
        std::memcpy(to, &pairs, 64);
      }
      for (int d = 0; d < dim && !is_value; d += 2)
        std::memcpy(head.element(false, d, at), rounded + d, 4);
    } else {
      i32 top = {};
      for (int d = 0; d < dim; d += 16) {
        const i32 magnitude = bits(load(row + d)) & 0x7fffffff;
        top = maximum(top, magnitude);
      }
      const float largest = reduce_top(top, top);  // NaN counts as largest and reaches the scale
      const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
      head.scales(is_value)[at] = largest / 127.0f;
      const f32 limit = set1(127.0f);
      alignas(64) uint8_t rounded[512];
      for (int d = 0; d < dim; d += 16) {
        const f32 x = minimum(maximum(load(row + d) * set1(inverse), -limit), limit);
        store_low_bytes(rounded + d, to_i32(round_even(x)));
      }
      for (int d = 0; d < dim && !is_value; ++d) rounded[d] ^= 128;
      put(rounded);
    }
  });
}
