// The last op: logits of the rows that want some, and a choice from each. Rows whose mask allows
// few tokens get the logits of those tokens' panels alone, bit for bit what the whole head gives
// there.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "executor.h"

namespace ff {
namespace {

constexpr int64_t kFewPanels = 2;  // few: at most one panel in so many

// Calls body(panel) for each panel that has a token of the mask, ascending.
template <class Body>
void each_panel(const uint32_t* mask, int64_t num_panels, Body&& body) {
  for (int64_t panel = 0; panel < num_panels; ++panel)
    if (mask[panel / 2] >> (panel % 2 * 16) & 0xffff) body(panel);
}

// Clears columns [first, last) of `count` rows.
void clear(float* logits, int64_t stride, int count, int64_t first, int64_t last) {
  for (int r = 0; r < count; ++r)
    std::fill(logits + r * stride + first, logits + r * stride + last, -INFINITY);
}

}  // namespace

// True for rows that need no logit but the largest, of those that a wide mask allows.
bool Executor::is_greedy(const StepView& view, const SampleRow& row) const {
  return row.temperature < 1e-5f && row.num_logprobs < 0 && row.target < 0 &&
         (row.mask_row < 0 || num_allowed_panels(view, row) * kFewPanels > ops_.back().units) &&
         row.bias_len == 0 && row.repetition_penalty == 1 && row.presence_penalty == 0 &&
         row.frequency_penalty == 0 && !view.logits;
}

// True for rows that need only the logits that their mask allows.
bool Executor::is_narrow(const StepView& view, const SampleRow& row) const {
  if (row.mask_row < 0 || row.target >= 0 || row.num_logprobs >= 0) return false;
  const int64_t count = num_allowed_panels(view, row);
  return count > 0 && count * kFewPanels <= ops_.back().units;
}

// How many panels have a token that the row's mask allows.
int64_t Executor::num_allowed_panels(const StepView& view, const SampleRow& row) const {
  const uint32_t* mask = view.sample.masks + int64_t{row.mask_row} * view.sample.mask_words;
  int64_t count = 0;
  each_panel(mask, ops_.back().units, [&](int64_t) { ++count; });
  return count;
}

// Puts the rows in the order in which they are computed: greedy rows, other whole rows, narrow
// ones.
void Executor::plan_head(const StepView& view) {
  for (auto* rows : {&greedy_, &whole_, &narrow_}) rows->clear();
  for (int r = 0; r < view.num_rows; ++r) {
    const SampleRow& row = view.rows[r];
    (is_greedy(view, row) ? greedy_ : is_narrow(view, row) ? narrow_ : whole_).push_back(r);
  }
  head_rows_.clear();
  for (auto* rows : {&greedy_, &whole_, &narrow_})
    head_rows_.insert(head_rows_.end(), rows->begin(), rows->end());
  head_tokens_.clear();
  for (const int row : head_rows_) head_tokens_.push_back(view.logit_rows[row]);
  const int num_greedy = static_cast<int>(greedy_.size());
  const int num_whole = num_greedy + static_cast<int>(whole_.size());
  num_groups_ = 0;
  for (int first = 0; first < view.num_rows;) {
    const int end = first < num_whole ? num_whole : view.num_rows;
    if (head_groups_.size() == num_groups_) head_groups_.emplace_back();
    HeadGroup& group = head_groups_[num_groups_];
    group.first = first;
    group.count = std::min(kHeadRows, end - first);
    group.num_greedy = std::clamp(num_greedy - first, 0, group.count);
    group.panels.clear();
    if (first >= num_whole) choose_panels(view, group);
    const int64_t units = group.panels.size();
    head_splits_[num_groups_++]->reset(units ? units : ops_.back().units);
    first += group.count;
  }
}

// The panels that any row of the group needs; none when those are too many to be worth it.
void Executor::choose_panels(const StepView& view, HeadGroup& group) {
  const int words = view.sample.mask_words;
  allowed_.assign(words, 0);
  for (int r = group.first; r < group.first + group.count; ++r) {
    const uint32_t* mask = view.sample.masks + int64_t{view.rows[head_rows_[r]].mask_row} * words;
    for (int w = 0; w < words; ++w) allowed_[w] |= mask[w];
  }
  const int64_t all = ops_.back().units;
  each_panel(allowed_.data(), all, [&](int64_t panel) { group.panels.push_back(panel); });
  if (static_cast<int64_t>(group.panels.size()) * kFewPanels > all) group.panels.clear();
}

void Executor::head(Op& op, int thread) {
  for (size_t g = 0; g < num_groups_; ++g) {
    const HeadGroup& group = head_groups_[g];
    const Rows rows{group.count, head_tokens_.data() + group.first};
    const Activations& input = prepare(op, thread, rows);
    std::fill_n(peaks_[thread].begin(), group.num_greedy, RowPeak{{}, -INFINITY, INT32_MAX});
    head_splits_[g]->each(thread, [&](int64_t unit) { head_unit(op, group, unit, input, thread); });
    meet(op, thread, &OpTime::run_ns);
    for (int r = thread; r < group.count; r += threads_.count()) {
      const int row = head_rows_[group.first + r];
      if (r < group.num_greedy)
        choose_peak(row, r);
      else
        choose(row, logits_ + r * logits_stride_, !group.panels.empty(), thread);
    }
    if (g + 1 < num_groups_) meet(op, thread, &OpTime::run_ns);
  }
}

// One panel for the rows of a group; where panels are left out, what lies before it is cleared, and
// by the last what lies behind.
void Executor::head_unit(const Op& op, const HeadGroup& group, int64_t unit,
                         const Activations& input, int thread) {
  const Scratch& scratch = scratch_[thread];
  int64_t panel = unit;
  if (!group.panels.empty()) {
    panel = group.panels[unit];
    const int64_t last = unit ? (group.panels[unit - 1] + 1) * kPanelRows : 0;
    clear(logits_, logits_stride_, group.count, last, panel * kPanelRows);
    if (unit + 1 == static_cast<int64_t>(group.panels.size()))
      clear(logits_, logits_stride_, group.count, (panel + 1) * kPanelRows, logits_stride_);
  }
  kernels_.panel(*op.weights[0], panel, input, arithmetic_, scratch, scratch.out);
  if (op.spec.softcap > 0)
    kernels_.soft_cap(scratch.out, int64_t{group.count} * kPanelRows, op.spec.softcap);
  const int64_t first = panel * kPanelRows;
  const int greedy = group.num_greedy,
            last = std::min<int64_t>(sizes_.head_rows - first, kPanelRows);
  for (int r = 0; r < greedy; ++r)
    mask_panel(head_rows_[group.first + r], panel, scratch.out + r * kPanelRows);
  kernels_.peak_rows(scratch.out, greedy, static_cast<int32_t>(first), last, peaks_[thread].data());
  kernels_.store_rows(scratch.out + greedy * kPanelRows, group.count - greedy, kPanelRows, nullptr,
                      nullptr, logits_stride_, logits_ + greedy * logits_stride_ + first);
}

// Puts what the row's mask does not allow of a panel below all else. What is not finite stays: it
// is an error wherever it is.
void Executor::mask_panel(int row, int64_t panel, float* out) const {
  const SampleInputs& sample = view_->sample;
  const int mask_row = view_->rows[row].mask_row;
  if (mask_row < 0) return;
  const uint32_t word = sample.masks[int64_t{mask_row} * sample.mask_words + panel / 2];
  const uint32_t allowed = word >> (panel % 2 * kPanelRows) & 0xffff;
  if (allowed == 0xffff) return;
  for (int i = 0; i < kPanelRows; ++i)
    if (!(allowed >> i & 1) && std::isfinite(out[i])) out[i] = -FLT_MAX;
}

// The largest of all threads' peaks of the group's row `index`.
void Executor::choose_peak(int row, int index) {
  RowPeak best{{}, -INFINITY, INT32_MAX};
  float not_finite = 0;
  for (const auto& peaks : peaks_) {
    const RowPeak& peak = peaks[index];
    for (const float lane : peak.not_finite) not_finite += lane;
    if (peak.value > best.value || (peak.value == best.value && peak.id < best.id)) best = peak;
  }
  const bool bad = not_finite != 0;
  view_->tokens[row] = bad ? 0 : best.id;
  view_->ranks[row] = 0;
  view_->logprobs[row] = 0;
  view_->bad[row] = bad;
}

void Executor::choose(int row, const float* logits, bool is_partial, int thread) {
  const StepView& view = *view_;
  SampleInputs inputs = view.sample;
  inputs.partial = is_partial;
  const int64_t top = int64_t{row} * view.top_stride;
  const Sampled chosen =
      kernels_.sample(view.rows[row], inputs, logits, sizes_.head_rows, scratch_[thread],
                      view.top_ids + top, view.top_logprobs + top);
  view.tokens[row] = chosen.token;
  view.ranks[row] = chosen.rank;
  view.logprobs[row] = chosen.logprob;
  view.bad[row] = chosen.bad;
  if (view.logits)
    std::memcpy(view.logits + int64_t{row} * sizes_.vocab_size, logits,
                sizeof(float) * sizes_.head_rows);
}

}  // namespace ff
