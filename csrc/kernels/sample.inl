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

// Lanes with a bit set, lowest first.
template <class Body>
FF_INLINE void each_bit(uint32_t lanes, Body&& body) {
  for (; lanes; lanes &= lanes - 1) body(__builtin_ctz(lanes));
}

// Calls body(id) for every x[id] > limit, ids ascending.
template <class Body>
FF_INLINE void each_above(const float* x, int n, float limit, Body&& body) {
  int k = 0;
  for (; k + 16 <= n; k += 16)
    each_bit(lanes_above(load(x + k), set1(limit)), [&](int lane) { body(k + lane); });
  for (; k < n; ++k)
    if (x[k] > limit) body(k);
}

static int count_above(const float* x, int n, float limit) {
  int count = 0, k = 0;
  for (; k + 16 <= n; k += 16) count += __builtin_popcount(lanes_above(load(x + k), set1(limit)));
  for (; k < n; ++k) count += x[k] > limit;
  return count;
}

struct Peak {
  float value;
  int32_t id;  // the lowest of equals
  bool odd;    // NaN or infinite somewhere; where `partial`, -inf is no such thing
};

constexpr int kStretch = 256;  // logits looked at, or weights summed, at a time

static Peak peak(const float* x, int n, bool partial) {
  const f32 lowest = set1(partial ? -3.402823466e38f : -INFINITY);
  float best = -INFINITY, odd = 0;
  int at = 0, k = 0;
  f32 sums[4] = {};
  for (; k + kStretch <= n; k += kStretch) {
    f32 top[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) top[i] = set1(-INFINITY);
    for (int j = 0; j < kStretch; j += 64) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const f32 value = maximum(lowest, load(x + k + j + 16 * i));  // NaN stays
        sums[i] = sums[i] + (value - value);                          // 0, or NaN if not finite
        top[i] = maximum(top[i], value);
      }
    }
    const f32 all = maximum(maximum(top[0], top[1]), maximum(top[2], top[3]));
    if (lanes_above(all, set1(best))) {
      best = reduce_max(all);
      at = k;
    }
  }
  for (int i = 0; i < 4; ++i) odd += reduce_add(sums[i]);
  for (; k < n; ++k) {
    if (!(partial && x[k] == -INFINITY)) odd += x[k] - x[k];
    if (x[k] > best) {
      best = x[k];
      at = k;
    }
  }
  const bool is_odd = !(odd == 0.0f);
  while (at + 1 < n && x[at] != best && !is_odd) ++at;
  return {best, at, is_odd};
}

static void peak_rows(const float* from, int num_rows, int32_t first_id, int count,
                      RowPeak* peaks) {
  for (int r = 0; r < num_rows; ++r, from += kPanelRows) {
    RowPeak& peak = peaks[r];
    const f32 all = load(from), odd = keep_first(all - all, count, 0.0f);
    store(peak.not_finite, load(peak.not_finite) + odd);
    const f32 value = keep_first(all, count, -INFINITY);
    // A panel of lower ids wins a tie, too.
    const float limit = first_id < peak.id ? std::nextafter(peak.value, -INFINITY) : peak.value;
    if (!lanes_above(value, set1(limit))) continue;
    peak.value = reduce_max(value);
    int at = 0;
    while (at + 1 < count && from[at] != peak.value) ++at;
    peak.id = first_id + at;
  }
}

// The sum of e^((x - top) * inverse), a stretch at a time; each stretch's sum goes to `sums` unless
// that is null.
static double sum_exp(const float* x, int n, float top, float inverse, double* sums) {
  double total = 0;
  for (int k = 0; k < n; k += kStretch) {
    const int end = k + kStretch < n ? k + kStretch : n;
    f32 sum = {};
    int i = k;
    for (; i + 16 <= end; i += 16) sum = sum + exp((load(x + i) - set1(top)) * set1(inverse));
    float rest = reduce_add(sum);
    for (; i < end; ++i) rest += exp(set1((x[i] - top) * inverse))[0];
    total += rest;
    if (sums) *sums++ = rest;
  }
  return total;
}

// The k-th largest of n (1 <= k <= n). `buffer` has room for n.
static float kth_largest(const float* x, int n, int k, float* buffer) {
  const int64_t roomy = int64_t{2} * k + 1024;
  const int room = roomy < n ? static_cast<int>(roomy) : n;
  int count = room < n ? 2 * k + 256 : n;
  std::memcpy(buffer, x, sizeof(float) * count);
  float limit = 0;
  auto cut = [&] {
    std::nth_element(buffer, buffer + k - 1, buffer + count,
                     [](float a, float b) { return a > b; });  // a type of this ISA's own
    count = k;
    limit = buffer[k - 1];
  };
  const int first = count;
  cut();
  for (int i = first; i < n;) {  // in pieces, so that a raised limit is used soon
    const int end = i + 4096 < n ? i + 4096 : n;
    const float now = limit;
    each_above(x + i, end - i, now, [&](int at) {
      if (count == room) cut();
      buffer[count++] = x[i + at];
    });
    if (count > k) cut();
    i = end;
  }
  return limit;
}

// The `count` largest, best first, ties by lower id. `spare` and `buffer` have room for n.
static void top_ids(const float* x, int n, int count, float* buffer, int32_t* spare, int32_t* ids) {
  if (count <= 0) return;
  const float limit = kth_largest(x, n, count, buffer);
  int above = 0, equal = 0;
  each_above(x, n, std::nextafter(limit, -INFINITY), [&](int id) {
    if (x[id] > limit)
      ids[above++] = id;
    else if (equal < count)
      spare[equal++] = id;
  });
  std::sort(ids, ids + above,
            [&](int32_t a, int32_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; });
  std::memcpy(ids + above, spare, sizeof(int32_t) * (count - above));
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

// Clears what the mask does not allow.
static void apply_mask(const uint32_t* mask, int n, float* x) {
  for (int k = 0; k < n; k += 32) {
    const uint32_t word = mask[k / 32];
    if (word == 0xffffffffu) continue;
    if (word == 0 && k + 32 <= n) {
      store(x + k, set1(-INFINITY));
      store(x + k + 16, set1(-INFINITY));
      continue;
    }
    each_bit(~word, [&](int lane) {
      if (k + lane < n) x[k + lane] = -INFINITY;
    });
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
  if (row.mask_row >= 0) apply_mask(in.masks + int64_t{row.mask_row} * in.mask_words, n, y);
  if (penalties && row.history_len > 0) apply_penalties(row, in, y, scratch.counts);
  return y;
}

// Candidates of a draw: token ids ascending, and their weights beside them.
struct Candidates {
  int32_t* ids;
  float* weights;
  int count;

  template <class Keeps>
  void keep(Keeps&& keeps) {
    int kept = 0;
    for (int c = 0; c < count; ++c) {
      if (!keeps(ids[c], weights[c])) continue;
      ids[kept] = ids[c];
      weights[kept++] = weights[c];
    }
    count = kept;
  }
};

// The largest float whose double is at most `value`.
static float float_below(double value) {
  const float near = static_cast<float>(value);
  return near > value ? std::nextafter(near, -INFINITY) : near;
}

// top-k (ties with the k-th stay), min-p, and weights e^((x - top) / temperature) of what is left.
static Candidates cut_top_k_min_p(const SampleRow& row, const float* x, int n, float top,
                                  float inverse, const Scratch& scratch) {
  float limit = -INFINITY;
  if (row.top_k > 0 && row.top_k < n)
    limit = kth_largest(x, n, row.top_k, reinterpret_cast<float*>(scratch.candidates));
  if (row.min_p > 0) {  // what is surely lighter is left out here, the rest below
    const double least = top + (__builtin_log(row.min_p) - 0.01) / static_cast<double>(inverse);
    const float low = float_below(least);
    limit = limit > low ? limit : low;
  }
  Candidates to{scratch.candidates, scratch.sample, 0};
  each_above(x, n, std::nextafter(limit, -INFINITY), [&](int id) { to.ids[to.count++] = id; });
  // The weights may lie over x: the c-th candidate's id is at least c.
  for (int c = 0; c < to.count; ++c) to.weights[c] = x[to.ids[c]];
  int c = 0;
  for (; c + 16 <= to.count; c += 16)
    store(to.weights + c, exp((load(to.weights + c) - set1(top)) * set1(inverse)));
  for (; c < to.count; ++c) to.weights[c] = exp(set1((to.weights[c] - top) * inverse))[0];
  const float least = row.min_p;
  to.keep([&](int32_t, float w) { return w > 0 && w >= least; });
  return to;
}

// All tokens but those so light that together they are less than what top-p leaves out.
static Candidates all_heavy(const SampleRow& row, const float* x, int n, float top, float inverse,
                            const Scratch& scratch, double& total) {
  float* weights = scratch.sample;  // may be x itself: each element is read before it is written
  total = 0;
  for (int k = 0; k < n; k += kStretch) {
    const int end = k + kStretch < n ? k + kStretch : n;
    f32 sum = {};
    int i = k;
    for (; i + 16 <= end; i += 16) {
      const f32 w = exp((load(x + i) - set1(top)) * set1(inverse));
      sum = sum + w;
      store(weights + i, w);
    }
    float rest = reduce_add(sum);
    for (; i < end; ++i) rest += weights[i] = exp(set1((x[i] - top) * inverse))[0];
    total += rest;
  }
  const double left_out = (1.0 - static_cast<double>(row.top_p)) * total;
  Candidates to{scratch.candidates, weights, 0};
  each_above(weights, n, static_cast<float>(0.5 * left_out / n), [&](int id) {
    to.ids[to.count] = id;
    to.weights[to.count++] = weights[id];  // the place is not behind the id
  });
  return to;
}

// Keeps the smallest set of the likeliest whose mass reaches `mass`; ties: the lowest id first.
// Buckets of weights, an eighth of an octave wide, say where the border is; only what is in its
// bucket is put in order, in `spare`, which has room for all and is zero before and after.
static void cut_top_p(Candidates& from, double mass, int32_t* spare) {
  constexpr int kBuckets = 1024;
  double sums[kBuckets] = {};
  auto bucket_of = [](float w) {
    int32_t raw;
    std::memcpy(&raw, &w, 4);
    const int bucket = raw >> 20;  // at most 0x3f8: no weight is above 1
    return bucket < kBuckets ? bucket : kBuckets - 1;
  };
  for (int c = 0; c < from.count; ++c) sums[bucket_of(from.weights[c])] += from.weights[c];
  double sum = 0;
  int border = kBuckets - 1;
  while (border > 0 && (sums[border] == 0 || sum + sums[border] < mass)) sum += sums[border--];
  int num_border = 0;
  for (int c = 0; c < from.count; ++c)
    if (bucket_of(from.weights[c]) == border) spare[num_border++] = c;
  const float* weights = from.weights;
  std::sort(spare, spare + num_border, [&](int32_t a, int32_t b) {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
  });
  // The last that is kept; the likeliest of all is kept whatever the mass.
  int last = 0;
  while (last < num_border && (sum < mass || (last == 0 && sum == 0)))
    sum += weights[spare[last++]];
  if (num_border > 0) {
    const bool any = last > 0;
    const float edge = weights[spare[any ? last - 1 : 0]];
    const int32_t edge_id = from.ids[spare[any ? last - 1 : 0]];
    from.keep([&](int32_t id, float w) { return w > edge || (any && w == edge && id <= edge_id); });
  }
  std::memset(spare, 0, sizeof(int32_t) * num_border);
}

// Any token by its weight: only the stretch that the number falls into is looked at one by one.
static int32_t draw_any(double number, const float* x, int n, float top, float inverse,
                        const Scratch& scratch) {
  double* sums = reinterpret_cast<double*>(scratch.candidates);
  const double target = number * sum_exp(x, n, top, inverse, sums);
  double sum = 0;
  int k = 0;
  for (; k + kStretch < n && sum + *sums <= target; k += kStretch) sum += *sums++;
  const int end = k + kStretch < n ? k + kStretch : n;
  int32_t last = -1;
  for (int i = k; i < end; i += 16) {
    float weights[16];
    for (int j = 0; j < 16; ++j) weights[j] = i + j < end ? (x[i + j] - top) * inverse : -INFINITY;
    store(weights, exp(load(weights)));
    for (int j = 0; j < 16; ++j) {
      if (weights[j] == 0) continue;
      last = i + j;
      sum += weights[j];
      if (sum > target) return last;
    }
  }
  // Sums were rounded: the last token that has a weight.
  for (k = last < 0 ? k : 0; last < 0 && k-- > 0;)
    if ((x[k] - top) * inverse >= -87.0f) last = k;
  return last;
}

static int32_t draw(const SampleRow& row, const float* x, int n, int32_t best,
                    const Scratch& scratch) {
  const float inverse = 1.0f / row.temperature, top = x[best];
  const double number = uniform(row.seed, row.position);
  const bool few = (row.top_k > 0 && row.top_k < n) || row.min_p > 0;
  if (!few && row.top_p >= 1) return draw_any(number, x, n, top, inverse, scratch);
  double total = 0;
  Candidates from{};
  if (few) {
    from = cut_top_k_min_p(row, x, n, top, inverse, scratch);
    for (int c = 0; c < from.count; ++c) total += from.weights[c];
  } else {
    from = all_heavy(row, x, n, top, inverse, scratch, total);
  }
  if (row.top_p < 1) cut_top_p(from, static_cast<double>(row.top_p) * total, scratch.counts);
  double kept = 0;
  for (int c = 0; c < from.count; ++c) kept += from.weights[c];
  const double target = number * kept;
  double sum = 0;
  for (int c = 0; c < from.count; ++c) {
    sum += from.weights[c];
    if (sum > target) return from.ids[c];
  }
  return from.count ? from.ids[from.count - 1] : best;
}

static Sampled sample(const SampleRow& row, const SampleInputs& in, const float* logits, int n,
                      const Scratch& scratch, int32_t* ids, float* logprobs) {
  Sampled result{};
  const Peak raw = peak(logits, n, in.partial);
  if (raw.odd || raw.value == -INFINITY) {
    result.bad = true;
    return result;
  }
  if (row.target >= 0) {
    result.token = row.target;
  } else {
    const float* x = adjusted(row, in, logits, n, scratch);
    const int32_t best = x == logits ? raw.id : peak(x, n, true).id;
    if (x[best] == -INFINITY) {  // the mask allows nothing
      result.bad = true;
      return result;
    }
    result.token = row.temperature < 1e-5f ? best : draw(row, x, n, best, scratch);
  }
  if (row.num_logprobs < 0) return result;
  const double sum = sum_exp(logits, n, raw.value, 1.0f, nullptr);
  const float norm = raw.value + static_cast<float>(__builtin_log(sum));
  const float chosen = logits[result.token];
  result.logprob = chosen - norm;
  result.rank = 1 + count_above(logits, n, chosen);
  const int num_top = row.num_logprobs < n ? row.num_logprobs : n;
  top_ids(logits, n, num_top, scratch.sample, scratch.candidates, ids);
  for (int k = 0; k < num_top; ++k) logprobs[k] = logits[ids[k]] - norm;
  return result;
}
