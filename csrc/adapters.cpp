// Low-rank adapters: packed beside the base weights, added in the epilogue of every linear. A step
// may mix tokens of many adapters and of none.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "executor.h"
#include "require.h"

namespace ff {
namespace {

constexpr size_t kAheadBytes = 256 << 10;  // of A a thread: it has to stay in a core's own cache

// The largest magnitude: without their sign, bits of floats are in the order of the numbers.
float largest(const float* x, int64_t n) {
  int32_t top = 0;
  for (int64_t k = 0; k < n; ++k) {
    int32_t bits;
    std::memcpy(&bits, x + k, 4);
    top = std::max(top, bits & 0x7fffffff);
  }
  float value;
  std::memcpy(&value, &top, 4);
  return value;
}

// The power of two above the largest magnitude of a row of A; 1 for a row of zeros. A's rows over
// it, and B's columns times it, are exact, and then no rank drowns another when what A gives is
// rounded with one scale. Kept where its inverse is a float too.
float row_power(const float* row, int64_t cols) {
  const float top = largest(row, cols);
  int exponent = 0;
  std::frexp(top, &exponent);
  return top > 0 ? std::ldexp(1.0f, std::clamp(exponent, -126, 126)) : 1.0f;
}

// x * factor, at most 127, to the nearest whole, ties to even, above kLowRankZero. Adding
// 1.5 * 2^23 leaves a whole number in the low bits.
void to_int8(const float* x, int n, float factor, uint8_t* to) {
  for (int i = 0; i < n; ++i) {
    const float sum = x[i] * factor + 12582912.0f;
    uint32_t bits;
    std::memcpy(&bits, &sum, 4);
    to[i] = static_cast<uint8_t>(bits + kLowRankZero);
  }
}

float inverse_of(float top) { return top > 1e-30f ? 127.0f / top : 0.0f; }

// Words of four to byte [row * 4] of every 64.
void put_words(const uint8_t* from, int count, int row, uint8_t* to) {
  for (int word = 0; word < count; ++word)
    std::memcpy(to + word * 64 + row * 4, from + word * 4, 4);
}

// A panel of A: its rows `first` to `first + count - 1`, each over its power.
void pack_a(const AdapterPart& part, const LowRank& shape, const float* powers, int first,
            int count, uint8_t* to) {
  float* floats = reinterpret_cast<float*>(to);
  for (int row = 0; row < count; ++row) {
    const float* from = part.a + int64_t{first + row} * part.cols;
    if (!shape.is_int8) {
      for (int64_t k = 0; k < part.cols; ++k) floats[k * kPanelRows + row] = from[k];
      continue;
    }
    const float over = 1.0f / powers[first + row];
    uint8_t* block = to;
    for (int64_t k = 0; k < part.cols; k += kBlock, block += 64 + 512) {
      const int n = static_cast<int>(std::min<int64_t>(kBlock, part.cols - k));
      const float top = largest(from + k, n) * over, scale = top / 127.0f;
      uint8_t values[kBlock] = {};
      to_int8(from + k, n, inverse_of(top) * over, values);
      std::memcpy(block + 4 * row, &scale, 4);
      put_words(values, kBlock / kRankGroup, row, block + 64);
    }
  }
}

// A panel of B: output rows `first` to `first + count - 1`, times the adapter's scale.
void pack_b(const AdapterPart& part, const LowRank& shape, const float* powers, int64_t first,
            int count, uint8_t* to) {
  float* floats = reinterpret_cast<float*>(to);
  float columns[kMaxRank];
  for (int row = 0; row < count; ++row) {
    const float* from = part.b + (first + row) * part.rank;
    if (!shape.is_int8) {
      for (int r = 0; r < part.rank; ++r) floats[r * kPanelRows + row] = from[r] * part.scale;
      continue;
    }
    for (int r = 0; r < part.rank; ++r) columns[r] = from[r] * powers[r];
    const float top = largest(columns, part.rank);
    uint8_t values[kMaxRank] = {};
    to_int8(columns, part.rank, inverse_of(top), values);
    floats[row] = top / 127.0f * part.scale;
    put_words(values, shape.rank_groups(), row, to + 64);
  }
}

}  // namespace

std::unique_ptr<Adapter> Executor::pack_adapter(const std::vector<AdapterPart>& parts) const {
  auto adapter = std::make_unique<Adapter>();
  adapter->ops.resize(ops_.size());
  size_t bytes = 0;
  std::vector<size_t> starts;
  for (const AdapterPart& part : parts) {
    require(part.op >= 0 && part.op < static_cast<int>(ops_.size()), "adapter: unknown op");
    const Op& op = ops_[part.op];
    require(part.part >= 0 && part.part < static_cast<int>(op.weights.size()) &&
                op.spec.kind != OpKind::Embed && op.spec.kind != OpKind::Head,
            "adapter: the op takes none");
    const Matrix& weight = *op.weights[part.part];
    require(part.rank >= 1 && part.rank <= kMaxRank, "adapter: rank must be 1 to 256");
    require(part.rows == weight.rows && part.cols == weight.cols,
            "adapter: shapes do not match the base");
    LowRank& shape = adapter->ops[part.op][part.part];
    require(shape.rank == 0, "adapter: a part twice");
    shape.rank = part.rank;
    shape.is_int8 = op.quantise;
    shape.num_blocks = static_cast<int>(weight.num_blocks);
    starts.push_back(bytes);
    bytes += shape.a_bytes() + static_cast<size_t>(weight.num_panels) * shape.b_panel_bytes();
  }
  adapter->memory = spare_.take(bytes);
  for (size_t i = 0; i < parts.size(); ++i) {
    const AdapterPart& part = parts[i];
    LowRank& shape = adapter->ops[part.op][part.part];
    uint8_t* to = adapter->memory.data() + starts[i];
    std::vector<float> powers(part.rank);
    for (int r = 0; r < part.rank; ++r) powers[r] = row_power(part.a + r * part.cols, part.cols);
    shape.a = to;
    for (int r = 0; r < part.rank; r += kPanelRows, to += shape.a_panel_bytes())
      pack_a(part, shape, powers.data(), r, std::min(kPanelRows, part.rank - r), to);
    shape.b = to;
    for (int64_t row = 0; row < part.rows; row += kPanelRows, to += shape.b_panel_bytes())
      pack_b(part, shape, powers.data(), row,
             static_cast<int>(std::min<int64_t>(kPanelRows, part.rows - row)), to);
  }
  return adapter;
}

int Executor::add_adapter(std::unique_ptr<Adapter> adapter) {
  require(adapter && adapter->ops.size() == ops_.size(), "adapter: of another executor");
  const auto free = std::find(adapters_.begin(), adapters_.end(), nullptr);
  const int id = static_cast<int>(free - adapters_.begin());
  if (free == adapters_.end())
    adapters_.push_back(std::move(adapter));
  else
    *free = std::move(adapter);
  return id;
}

void Executor::remove_adapter(int id) {
  require(id >= 0 && id < static_cast<int>(adapters_.size()) && adapters_[id], "unknown adapter");
  spare_.keep(std::move(adapters_[id]->memory));
  adapters_[id].reset();
}

// The rows cut where their tile or their adapter changes; rows of none are left out.
std::vector<Executor::Run> Executor::runs_of(const StepView& view, Rows rows) const {
  std::vector<Run> runs;
  if (rows.count == 0) return runs;
  const Activations tiles = activations(nullptr, rows.count, kBlock);
  for (int tile = 0; tile < tiles.num_tiles; ++tile)
    for (int i = 0; i < tiles.width(tile); ++i) {
      const int row = tiles.start(tile) + i, id = view.adapter_ids[rows[row]];
      if (id < 0) continue;
      const Adapter* adapter = adapters_[id].get();
      const bool goes_on = i > 0 && view.adapter_ids[rows[row - 1]] == id;
      if (goes_on)
        ++runs.back().count;
      else
        runs.push_back({adapter, row, tile, i, 1});
    }
  return runs;
}

void Executor::plan_adapters(const StepView& view) {
  runs_.clear();
  tail_runs_.clear();
  if (view.adapter_ids) {
    runs_ = runs_of(view, {view.num_tokens, nullptr});
    if (tail_) tail_runs_ = runs_of(view, {static_cast<int>(tail_rows_.size()), tail_rows_.data()});
  }
  for (Op& op : ops_) {
    op.is_adapted = false;
    if (op.weights.empty()) continue;
    const size_t index = &op - ops_.data();
    for (const Run& run : runs(op))
      for (const LowRank& part : run.adapter->ops[index]) op.is_adapted |= part.rank > 0;
    if (op.is_adapted)
      op.low_split->reset(static_cast<int64_t>(runs(op).size() * op.weights.size()));
  }
}

const std::vector<Executor::Run>& Executor::runs(const Op& op) const {
  return tail_ && static_cast<size_t>(&op - ops_.data()) > last_attention_ ? tail_runs_ : runs_;
}

// u = A x for each run and each part of the op.
void Executor::shrink(Op& op, const Activations& input, int thread) {
  const std::vector<Run>& all = runs(op);
  const int64_t parts = static_cast<int64_t>(op.weights.size());
  op.low_split->each(thread, [&](int64_t unit) {
    const Run& run = all[unit / parts];
    const int part = static_cast<int>(unit % parts);
    const LowRank& low = run.adapter->ops[&op - ops_.data()][part];
    if (low.rank > 0)
      kernels_.shrink(low, input, run.tile, run.first, run.count,
                      shrunk_ + int64_t{run.row} * kMaxParts + part, kMaxParts);
  });
  look_ahead(op, thread);
}

// Sixteen adapters are as many bytes as the base, and the products of a batch leave half of the
// memory's bandwidth: a panel's kernel asks for its B, and for a share of A of the next op.
void Executor::look_ahead(const Op& op, int thread) {
  Ahead& ahead = ahead_[thread];
  ahead = Ahead{};
  const Op* next = &op + 1;
  const Op* const end = ops_.data() + ops_.size();
  while (next < end && !next->is_adapted) ++next;
  if (next == end) return;
  ahead.op = next;
  ahead.unit = next->low_split->first(thread);
  ahead.end = next->low_split->first(thread + 1);
  size_t bytes = 0;
  const int64_t parts = static_cast<int64_t>(next->weights.size());
  for (int64_t unit = ahead.unit; unit < ahead.end; ++unit)
    bytes += runs(*next)[unit / parts].adapter->ops[next - ops_.data()][unit % parts].a_bytes();
  int64_t panels = 0;
  for (const Matrix* weight : op.weights) panels += weight->num_panels;
  const size_t mine = static_cast<size_t>(panels / threads_.count() + 1);
  ahead.bytes_each = (std::min(bytes, kAheadBytes) + mine - 1) / mine;
}

void Executor::fetch_with(const Op& op, int thread, int part, int64_t panel) {
  if (!op.is_adapted) return;
  Fetches& fetches = fetches_[thread];
  for (const Run& run : runs(op)) {
    const LowRank& low = run.adapter->ops[&op - ops_.data()][part];
    if (low.rank > 0) fetches.add(low.b + panel * low.b_panel_bytes(), low.b_panel_bytes());
  }
  Ahead& ahead = ahead_[thread];
  const int64_t parts = ahead.op ? static_cast<int64_t>(ahead.op->weights.size()) : 1;
  for (size_t left = ahead.bytes_each; left > 0 && ahead.unit < ahead.end;) {
    const Run& run = runs(*ahead.op)[ahead.unit / parts];
    const LowRank& low = run.adapter->ops[ahead.op - ops_.data()][ahead.unit % parts];
    const size_t bytes = std::min(left, low.a_bytes() - ahead.byte);
    fetches.add(low.a + ahead.byte, bytes);
    left -= bytes;
    ahead.byte += bytes;
    if (ahead.byte < low.a_bytes()) return;
    ahead.byte = 0;
    ++ahead.unit;
  }
}

// out[row * 16 ...] += scale * B u, for one panel of a part's output rows.
void Executor::add_delta(const Op& op, int part, int64_t panel, float* out) const {
  if (!op.is_adapted) return;
  for (const Run& run : runs(op)) {
    const LowRank& low = run.adapter->ops[&op - ops_.data()][part];
    if (low.rank > 0)
      kernels_.expand(low, panel, shrunk_ + int64_t{run.row} * kMaxParts + part, kMaxParts,
                      run.count, out + int64_t{run.row} * kPanelRows);
  }
}

}  // namespace ff
