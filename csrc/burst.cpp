// Several decode steps in one call: each chosen token is the next step's input. The caller has put
// the blocks that the steps may write into the block tables; nothing else is decided here.
#include <vector>

#include "executor.h"
#include "require.h"

namespace ff {
namespace {

bool is_stop(const Burst& burst, int row, int32_t token) {
  for (int i = burst.stop_starts[row]; i < burst.stop_starts[row + 1]; ++i)
    if (burst.stop_ids[i] == token) return true;
  return false;
}

// True when a row of the step that has just run may not go on.
bool any_ended(const StepView& view, const Burst& burst) {
  for (int r = 0; r < view.num_rows; ++r)
    if (view.bad[r] || is_stop(burst, r, view.tokens[r])) return true;
  return false;
}

}  // namespace

void Executor::check_burst(const StepView& v, const Burst& burst) const {
  require(v.num_sequences == v.num_tokens && v.num_rows == v.num_tokens,
          "burst: one token and one logit row a sequence");
  require(!v.logits, "burst: no copy of the logits");
  require(burst.stop_starts[0] == 0, "stop_starts");
  for (int r = 0; r < v.num_rows; ++r) {
    require(v.cu_seqlens[r] == r && v.logit_rows[r] == r, "burst: rows in the sequences' order");
    require(v.rows[r].target < 0, "burst: no target");
    require(v.positions[r] == v.seq_lens[r] - 1, "burst: the token must be the last");
    const int64_t end = int64_t{v.seq_lens[r]} + burst.max_steps - 1;
    require(end <= sizes_.max_model_len && end <= int64_t{v.max_blocks} * kKvBlock,
            "burst: longer than the context or its block table");
    require(burst.stop_starts[r] <= burst.stop_starts[r + 1] &&
                burst.stop_starts[r + 1] <= burst.num_stop_ids,
            "stop_starts: must rise within stop_ids");
  }
}

int Executor::burst(const StepView& first, const Burst& burst) {
  check(first);
  check_burst(first, burst);
  const int rows = first.num_rows;
  std::vector<int32_t> tokens(first.token_ids, first.token_ids + rows);
  std::vector<int32_t> positions(first.positions, first.positions + rows);
  std::vector<int32_t> slots(first.slot_mapping, first.slot_mapping + rows);
  std::vector<int32_t> lengths(first.seq_lens, first.seq_lens + rows);
  std::vector<SampleRow> sample_rows(first.rows, first.rows + rows);
  std::vector<int32_t> history;  // each row's own, with room for what the steps will add
  for (SampleRow& row : sample_rows) {
    if (row.history_len == 0) continue;
    const int32_t* from = first.sample.history + row.history_start;
    row.history_start = static_cast<int32_t>(history.size());
    history.insert(history.end(), from, from + row.history_len);
    history.resize(history.size() + burst.max_steps);
  }
  StepView view = first;
  view.token_ids = tokens.data();
  view.positions = positions.data();
  view.slot_mapping = slots.data();
  view.seq_lens = lengths.data();
  view.rows = sample_rows.data();
  view.sample.history = history.data();
  view.history_len = static_cast<int64_t>(history.size());
  for (int done = 1;; ++done) {
    step(view);
    if (done == burst.max_steps || any_ended(view, burst) ||
        __atomic_load_n(burst.new_work, __ATOMIC_ACQUIRE))
      return done;
    for (int r = 0; r < rows; ++r) {
      const int32_t token = view.tokens[r], position = ++positions[r];
      const int32_t* table = view.block_tables + int64_t{r} * view.max_blocks;
      tokens[r] = token;
      slots[r] = table[position / kKvBlock] * kKvBlock + position % kKvBlock;
      ++lengths[r];
      SampleRow& row = sample_rows[r];
      ++row.position;
      if (row.history_len > 0) history[row.history_start + row.history_len++] = token;
    }
    view.tokens += rows;
    view.ranks += rows;
    view.logprobs += rows;
    view.bad += rows;
    view.top_ids += int64_t{rows} * view.top_stride;
    view.top_logprobs += int64_t{rows} * view.top_stride;
  }
}

}  // namespace ff
