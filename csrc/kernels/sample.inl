// Choosing a token from a row of logits. Included inside an ISA's namespace.
//
// Log-probabilities are of the raw logits. Order of processing: bias and mask, repetition penalty,
// presence and frequency penalties, temperature, top-k, min-p, top-p; then the inverse of the
// cumulative distribution in ascending token order at a number that depends on (seed, position)
// alone. backends/numpy/sampler.py is the reference.

// splitmix64 of (seed, position), as a number in [0, 1) with 24 bits.
static double uniform(uint64_t seed, int32_t position) {
  uint64_t z = seed + (static_cast<uint64_t>(position) + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return static_cast<double>(z >> 40) / 16777216.0;
}

static int32_t argmax(const float* x, int n) {
  f32 top = set1(-INFINITY);
  int k = 0;
  for (; k + 16 <= n; k += 16) top = maximum(top, load(x + k));
  float best = reduce_max(top);
  for (; k < n; ++k) best = x[k] > best ? x[k] : best;
  for (k = 0; k < n; ++k)
    if (x[k] == best) return k;
  return 0;
}

// The largest logit, or NaN if any is not finite.
static float finite_max(const float* x, int n) {
  f32 top = set1(-INFINITY), odd = {};
  int k = 0;
  for (; k + 16 <= n; k += 16) {
    const f32 value = load(x + k);
    odd = odd + (value - value);  // 0 when finite, else NaN
    top = maximum(top, value);
  }
  float best = reduce_max(top), rest = reduce_add(odd);
  for (; k < n; ++k) {
    rest += x[k] - x[k];
    best = x[k] > best ? x[k] : best;
  }
  return rest == 0.0f ? best : NAN;
}

static double sum_exp(const float* x, int n, float top) {
  double total = 0;
  int k = 0;
  for (; k + 16 <= n; k += 16) total += reduce_add(exp(load(x + k) - set1(top)));
  for (; k < n; ++k) total += exp(set1(x[k] - top))[0];
  return total;
}

// The `count` largest, best first, ties by lower id.
static void top_ids(const float* x, int n, int count, int32_t* ids) {
  int held = 0;
  for (int k = 0; k < n; ++k) {
    if (held == count && !(x[k] > x[ids[held - 1]])) continue;
    int at = held < count ? held++ : held - 1;
    for (; at > 0 && x[k] > x[ids[at - 1]]; --at) ids[at] = ids[at - 1];
    ids[at] = k;
  }
}

static void apply_penalties(const SampleRow& row, const SampleInputs& in, float* x,
                            int32_t* counts) {
  const int32_t* history = in.history + row.history_start;
  // Upper bits count output tokens, the lowest says that the token was seen at all.
  for (int k = 0; k < row.history_len; ++k)
    counts[history[k]] = (counts[history[k]] | 1) + (k >= row.history_prompt_len ? 2 : 0);
  for (int k = 0; k < row.history_len; ++k) {
    const int32_t token = history[k];
    if (!counts[token]) continue;
    const float times = static_cast<float>(counts[token] >> 1);
    float value = x[token];
    value = value > 0 ? value / row.repetition_penalty : value * row.repetition_penalty;
    value -= row.frequency_penalty * times;
    if (times > 0) value -= row.presence_penalty;
    x[token] = value;
    counts[token] = 0;
  }
}

// Bias, mask and penalties on a copy; returns x itself where there is nothing to change.
static const float* adjusted(const SampleRow& row, const SampleInputs& in, const float* x, int n,
                             const Scratch& scratch) {
  const bool penalties = row.repetition_penalty != 1.0f || row.presence_penalty != 0.0f ||
                         row.frequency_penalty != 0.0f;
  if (!penalties && row.bias_len == 0 && row.mask_row < 0) return x;
  float* y = scratch.sample;
  std::memcpy(y, x, sizeof(float) * n);
  for (int k = row.bias_start; k < row.bias_start + row.bias_len; ++k)
    y[in.bias_ids[k]] += in.bias_values[k];
  if (row.mask_row >= 0) {
    const uint32_t* mask = in.masks + int64_t{row.mask_row} * in.mask_words;
    for (int k = 0; k < n; ++k)
      if (!(mask[k / 32] >> (k % 32) & 1)) y[k] = -INFINITY;
  }
  if (penalties && row.history_len > 0) apply_penalties(row, in, y, scratch.counts);
  return y;
}

// Keeps the candidates of the smallest set of the likeliest whose mass reaches top_p.
// `ids` ascending by id on entry and on return; `weight` per token, total their sum.
static int cut_top_p(const float* weight, int32_t* ids, int count, double mass) {
  std::sort(ids, ids + count, [&](int32_t a, int32_t b) {
    return weight[a] != weight[b] ? weight[a] > weight[b] : a < b;
  });
  double sum = 0;
  int kept = 0;
  while (kept < count && (kept == 0 || sum < mass)) sum += weight[ids[kept++]];
  std::sort(ids, ids + kept);
  return kept;
}

static int32_t draw(const SampleRow& row, const float* x, int n, int32_t best,
                    const Scratch& scratch) {
  const float inverse = 1.0f / row.temperature;
  const float top = x[best];
  float* weight = scratch.sample;  // may be x itself: each element is read before it is written
  // top-k as a threshold on the value: ties at the border stay, as in the reference.
  float threshold = -INFINITY;
  if (row.top_k > 0 && row.top_k < n) {
    int32_t* order = scratch.candidates;
    if (row.top_k <= 256) {
      top_ids(x, n, row.top_k, order);
      threshold = x[order[row.top_k - 1]];
    } else {
      for (int k = 0; k < n; ++k) order[k] = k;
      std::nth_element(order, order + row.top_k - 1, order + n,
                       [&](int32_t a, int32_t b) { return x[a] > x[b]; });
      threshold = x[order[row.top_k - 1]];
    }
  }
  double total = 0;
  int k = 0;
  for (; k + 16 <= n; k += 16) {
    const f32 value = load(x + k);
    f32 w = exp((value - set1(top)) * set1(inverse));
    w = zero_where_less(w, value, set1(threshold));
    if (row.min_p > 0) w = zero_where_less(w, w, set1(row.min_p));
    total += reduce_add(w);
    store(weight + k, w);
  }
  for (; k < n; ++k) {
    float w = x[k] < threshold ? 0.0f : exp(set1((x[k] - top) * inverse))[0];
    if (w < row.min_p) w = 0.0f;
    total += w;
    weight[k] = w;
  }
  int32_t* ids = scratch.candidates;
  int count = 0;
  // Tokens so light that all of them together are less than what top-p leaves out cannot be kept.
  const float floor = row.top_p < 1.0f ? static_cast<float>((1.0 - row.top_p) * total / n) : 0.0f;
  for (k = 0; k < n; ++k)
    if (weight[k] > floor * 0.5f) ids[count++] = k;
  if (row.top_p < 1.0f) count = cut_top_p(weight, ids, count, row.top_p * total);
  double kept = 0;
  for (k = 0; k < count; ++k) kept += weight[ids[k]];
  const double target = uniform(row.seed, row.position) * kept;
  double sum = 0;
  for (k = 0; k < count; ++k) {
    sum += weight[ids[k]];
    if (sum > target) return ids[k];
  }
  return count ? ids[count - 1] : best;
}

static Sampled sample(const SampleRow& row, const SampleInputs& in, const float* logits, int n,
                      const Scratch& scratch, int32_t* ids, float* logprobs) {
  Sampled result{};
  const float top = finite_max(logits, n);
  if (top != top) {
    result.bad = true;
    return result;
  }
  if (row.target >= 0) {
    result.token = row.target;
  } else {
    const float* x = adjusted(row, in, logits, n, scratch);
    const int32_t best = argmax(x, n);
    if (x[best] == -INFINITY) {  // the mask allows nothing
      result.bad = true;
      return result;
    }
    result.token = row.temperature < 1e-5f ? best : draw(row, x, n, best, scratch);
  }
  if (row.num_logprobs < 0) return result;
  const float norm = top + static_cast<float>(__builtin_log(sum_exp(logits, n, top)));
  const float chosen = logits[result.token];
  result.logprob = chosen - norm;
  result.rank = 1;
  for (int k = 0; k < n; ++k) result.rank += logits[k] > chosen;
  if (row.num_logprobs > 0) top_ids(logits, n, row.num_logprobs < n ? row.num_logprobs : n, ids);
  for (int k = 0; k < row.num_logprobs && k < n; ++k) logprobs[k] = logits[ids[k]] - norm;
  return result;
}
