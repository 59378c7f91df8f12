// Work on single rows: norm, quantisation, heads, activation. Included inside an ISA's namespace.

// sqrt(mean(x^2) + eps), summed sixteen lanes wide.
static float rms(const float* row, int64_t n, float eps) {
  f32 sum = {};
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) {
    const f32 x = load(row + k);
    sum = fma(x, x, sum);
  }
  float total = reduce_add(sum);
  for (; k < n; ++k) total += row[k] * row[k];
  return __builtin_sqrtf(total / static_cast<float>(n) + eps);
}

static void norm_row(const float* row, int64_t n, const float* weight, float eps, float* out) {
  const float inverse = 1.0f / rms(row, n, eps);
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) store(out + k, load(row + k) * set1(inverse) * load(weight + k));
  for (; k < n; ++k) out[k] = row[k] * inverse * weight[k];
}

// The largest magnitude by its bits, so that NaN counts as largest and reaches the scale.
static float largest(const float* x, int64_t n) {
  i32 top = {};
  for (int64_t k = 0; k < n; k += 16) {
    const i32 magnitude = bits(load(x + k)) & 0x7fffffff;
    top = maximum(top, magnitude);
  }
  return reduce_top(top, top);
}

// Where a token's blocks lie in the packed input: block b at start + b * width.
struct Place {
  int64_t start;
  int width, index;
};

// 32 floats to int8: d = top / 127, q = round_even(x / d), top = max|x| of all that share the
// scale.
static void quantise_block(f32 first, f32 second, float top, const Activations& to,
                           const Place& place, int b) {
  const int width = place.width;
  const float scale = top / 127.0f;
  const f32 inverse = set1(top > 1e-30f ? 127.0f / top : 0.0f);
  int32_t packed[8];
  int32_t sums[2];
  put_int8(first * inverse, second * inverse, packed, sums);
  const int64_t at = place.start + int64_t{b} * width;
  int32_t* words = to.words + at * 8 + place.index;
  for (int j = 0; j < 8; ++j) words[j * width] = packed[j];
  to.scale[at + place.index] = scale;
  to.scaled_sum[at + place.index] = scale * static_cast<float>(sums[0] + sums[1]);
  int32_t* minus = to.minus_sum + place.start + at + place.index;
  minus[0] = -sums[0];
  minus[int64_t{to.num_blocks} * width] = -sums[1];
}

static void pack_row(const float* row, int64_t cols, const float* norm, float eps, int scale_blocks,
                     bool keep_values, const Activations& to, int index, int first, int last,
                     float* scratch_row) {
  int tile = 0;
  while (to.start(tile) + to.width(tile) <= index) ++tile;
  const int64_t nb = to.num_blocks;
  const Place place{to.start(tile) * nb, to.width(tile), index - to.start(tile)};
  const float* x = row;  // copied only if it must be changed
  if (norm)
    norm_row(row, cols, norm, eps, scratch_row);
  else if (cols < nb * kBlock)
    std::memcpy(scratch_row, row, sizeof(float) * cols);
  if (norm || cols < nb * kBlock) {
    for (int64_t k = cols; k < nb * kBlock; ++k) scratch_row[k] = 0.0f;
    x = scratch_row;
  }
  float top = 0.0f;
  for (int b = first; b < last && scale_blocks; ++b) {
    if (b == first || b % scale_blocks == 0) {
      const int64_t begin = b - b % scale_blocks;
      top = largest(x + begin * kBlock, std::min<int64_t>(scale_blocks, nb - begin) * kBlock);
    }
    const float* block = x + b * kBlock;
    quantise_block(load(block), load(block + 16), top, to, place, b);
  }
  if (keep_values) {
    float* values = to.values + place.start * kBlock + place.index;
    for (int64_t k = int64_t{first} * kBlock; k < int64_t{last} * kBlock; ++k)
      values[k * place.width] = x[k];
  }
}

static void pack_panels(const float* from, int64_t stride, int scale_blocks, const Activations& to,
                        int first, int last) {
  for (int t = 0; t < to.num_tiles; ++t) {
    Place place{int64_t{to.start(t)} * to.num_blocks, to.width(t), 0};
    for (; place.index < place.width; ++place.index, from += kPanelRows)
      for (int begin = first; begin < last; begin += scale_blocks) {
        const int end = begin + scale_blocks < last ? begin + scale_blocks : last;
        const float* panels = from + 2 * (begin - first) * stride;
        i32 top = {};
        for (int p = 0; p < 2 * (end - begin); ++p) {
          const i32 magnitude = bits(load(panels + p * stride)) & 0x7fffffff;
          top = maximum(top, magnitude);
        }
        const float largest = reduce_top(top, top);
        for (int b = begin; b < end; ++b, panels += 2 * stride)
          quantise_block(load(panels), load(panels + stride), largest, to, place, b);
      }
  }
}

static void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  const f32 one = set1(1.0f);
  for (int64_t k = 0; k < n; k += 16) {
    const f32 g = load(gate + k);
    store(out + k, g / (one + exp(-g)) * load(up + k));
  }
}

// gelu by its tanh approximation, as x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).
static void gelu_mul(const float* gate, const float* up, int64_t n, float* out) {
  const f32 one = set1(1.0f), linear = set1(-1.5957691216057308f), cubic = set1(-0.07135481627f);
  for (int64_t k = 0; k < n; k += 16) {
    const f32 g = load(gate + k);
    const f32 u = g * fma(g * g, cubic, linear);
    store(out + k, g / (one + exp(u)) * load(up + k));
  }
}

static void add_norm(const float* row, int64_t n, const float* weight, float eps,
                     const float* residual, float* out) {
  const float inverse = 1.0f / rms(row, n, eps);
  int64_t k = 0;
  for (; k + 16 <= n; k += 16)
    store(out + k, load(residual + k) + load(row + k) * set1(inverse) * load(weight + k));
  for (; k < n; ++k) out[k] = residual[k] + row[k] * inverse * weight[k];
}

static void norm_head(float* head, int head_dim, const float* weight, float eps) {
  norm_row(head, head_dim, weight, eps, head);
}

static void store_rows(const float* from, int num_tokens, int rows, const float* bias,
                       const float* residual, int64_t stride, float* out) {
  if (rows < kPanelRows) {
    for (int t = 0; t < num_tokens; ++t)
      for (int r = 0; r < rows; ++r) {
        float y = from[t * kPanelRows + r];
        if (bias) y += bias[r];
        if (residual) y += residual[t * stride + r];
        out[t * stride + r] = y;
      }
    return;
  }
  for (int t = 0; t < num_tokens; ++t) {
    f32 y = load(from + t * kPanelRows);
    if (bias) y = y + load(bias);
    if (residual) y = y + load(residual + t * stride);
    store(out + t * stride, y);
  }
}

// Half-split rotary embedding; cos_sin holds head_dim / 2 cosines, then as many sines.
static void rope_head(float* head, int head_dim, const float* cos_sin) {
  const int half = head_dim / 2;
  int i = 0;
  for (; i + 16 <= half; i += 16) {
    const f32 a = load(head + i), b = load(head + i + half);
    const f32 c = load(cos_sin + i), s = load(cos_sin + i + half);
    store(head + i, a * c - b * s);
    store(head + i + half, b * c + a * s);
  }
  for (; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    const float c = cos_sin[i], s = cos_sin[i + half];
    head[i] = a * c - b * s;
    head[i + half] = b * c + a * s;
  }
}
