// Low-rank adapters: u = A x of a few tokens of a tile, then y += B u panel by panel. Included
// inside an ISA's namespace.
//
// A token's numbers never depend on which others are computed with it: one recurrence, as in
// linear.inl, whatever the count.

template <int M>
static void shrink_int8(const uint8_t* panel, const Tile& tile, int width, int first, float* out) {
  f32 acc[M];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) acc[i] = f32{};
  for (int b = 0; b < tile.num_blocks; ++b, panel += 64 + 512) {
    const int64_t at = int64_t{b} * width + first;
    const int32_t* words = tile.words + int64_t{b} * 8 * width + first;
    Dot<8, 8> dot[M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
      dot[i].start((tile.minus_first[at + i] + tile.minus_second[at + i]) * kLowRankZero);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const u8x64 w = load_bytes(panel + 64 + 64 * j);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) dot[i].add(j, w, words[int64_t{j} * width + i]);
    }
    const f32 scale = load(reinterpret_cast<const float*>(panel));
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
      acc[i] = fma(to_f32(dot[i].sum()), scale * set1(tile.scale[at + i]), acc[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) store(out + i * kMaxRank, acc[i]);
}

template <int M>
static void shrink_float(const uint8_t* panel, const Tile& tile, int width, int first, float* out) {
  const float* columns = reinterpret_cast<const float*>(panel);
  const float* values = tile.values + first;
  f32 acc[M];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) acc[i] = f32{};
  for (int64_t k = 0; k < int64_t{tile.num_blocks} * kBlock; ++k, values += width) {
    const f32 w = load(columns + 16 * k);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) acc[i] = fma(w, set1(values[i]), acc[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) store(out + i * kMaxRank, acc[i]);
}

// `ranks` floats, a multiple of 32 of which the last may be nobody's, to int8 with one scale.
static void quantise_ranks(const float* u, int ranks, Shrunk& to) {
  const float top = largest(u, ranks);
  const f32 inverse = set1(top > 1e-30f ? 127.0f / top : 0.0f);
  to.scale = top / 127.0f;
  int32_t sum = 0;
  for (int r = 0; r < ranks; r += 32) {
    int32_t sums[2];
    put_int8(load(u + r) * inverse, load(u + r + 16) * inverse, to.words + r / kRankGroup, sums);
    sum += sums[0] + sums[1];
  }
  to.start = -kLowRankZero * sum;
}

static void shrink(const LowRank& part, const Activations& input, int tile_index, int first,
                   int count, Shrunk* to, int64_t stride) {
  const Tile tile = tile_of(input, tile_index);
  const int width = input.width(tile_index), panels = part.rank_panels();
  alignas(64) float u[kTile * kMaxRank];
  with_width(count, [&](auto m) {
    for (int p = 0; p < panels; ++p) {
      const uint8_t* panel = part.a + p * part.a_panel_bytes();
      float* out = u + p * kPanelRows;
      if (part.is_int8)
        shrink_int8<m()>(panel, tile, width, first, out);
      else
        shrink_float<m()>(panel, tile, width, first, out);
    }
  });
  for (int i = 0; i < count; ++i) {
    float* values = u + i * kMaxRank;
    if (!part.is_int8) {
      std::memcpy(to[i * stride].values, values, sizeof(float) * part.rank);
      continue;
    }
    if (panels % 2) store(values + panels * kPanelRows, f32{});
    quantise_ranks(values, (panels + 1) / 2 * 32, to[i * stride]);
  }
}

template <int Groups>
static void expand_int8(const uint8_t* panel, int groups, const Shrunk* from, int64_t stride,
                        int count, float* out) {
  const f32 row_scale = load(reinterpret_cast<const float*>(panel));
  for (int i = 0; i < count; ++i, out += kPanelRows) {
    const Shrunk& u = from[i * stride];
    Dot<8, 1> dot;
    dot.start(u.start);
    if constexpr (Groups > 0) {
#pragma GCC unroll 8
      for (int g = 0; g < Groups; ++g) dot.add(0, load_bytes(panel + 64 + 64 * g), u.words[g]);
    } else {
      for (int g = 0; g < groups; ++g) dot.add(0, load_bytes(panel + 64 + 64 * g), u.words[g]);
    }
    store(out, fma(to_f32(dot.sum()), row_scale * set1(u.scale), load(out)));
  }
}

static void expand(const LowRank& part, int64_t panel_index, const Shrunk* from, int64_t stride,
                   int count, float* out) {
  const uint8_t* panel = part.b + panel_index * part.b_panel_bytes();
  if (part.is_int8) {
    const int groups = part.rank_groups();
    if (groups == 4) return expand_int8<4>(panel, 4, from, stride, count, out);
    return expand_int8<0>(panel, groups, from, stride, count, out);
  }
  for (int i = 0; i < count; ++i, out += kPanelRows) {
    const float* u = from[i * stride].values;
    f32 sum = {};
    for (int r = 0; r < part.rank; ++r)
      sum = fma(load(reinterpret_cast<const float*>(panel) + 16 * r), set1(u[r]), sum);
    store(out, load(out) + sum);
  }
}
