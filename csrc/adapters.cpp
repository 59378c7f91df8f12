// Low-rank adapters: held beside the base weights, added in the epilogue of every linear.
#include <algorithm>
#include <stdexcept>

#include "executor.h"
#include "require.h"

namespace ff {
int Executor::add_adapter(std::vector<AdapterPart> parts) {
  auto adapter = std::make_unique<Adapter>();
  adapter->parts = std::move(parts);
  adapter->by_op.assign(ops_.size(), std::vector<const AdapterPart*>(kMaxParts, nullptr));
  for (const AdapterPart& part : adapter->parts) {
    require(part.op >= 0 && part.op < static_cast<int>(ops_.size()), "adapter: unknown op");
    const Op& op = ops_[part.op];
    require(part.part >= 0 && part.part < static_cast<int>(op.weights.size()) &&
                op.spec.kind != OpKind::Embed && op.spec.kind != OpKind::Head,
            "adapter: the op takes none");
    const Matrix& weight = *op.weights[part.part];
    require(part.rank >= 1 && part.rank <= kMaxRank, "adapter: rank must be 1 to 128");
    require(static_cast<int64_t>(part.a.size()) == part.rank * weight.cols &&
                static_cast<int64_t>(part.b.size()) == part.rank * weight.rows,
            "adapter: shapes do not match the base");
    adapter->by_op[part.op][part.part] = &part;
  }
  for (const AdapterPart& part : adapter->parts) ops_[part.op].has_adapters = true;
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
  adapters_[id].reset();
}

// u = A x for each part of the token's adapter.
void Executor::shrink(const Op& op, int index, int64_t token, const float* x) {
  const int32_t id = view_->adapter_ids[token];
  if (id < 0) return;
  const auto& parts = adapters_[id]->by_op[&op - ops_.data()];
  const int64_t cols = op.weights[0]->cols;
  for (int p = 0; p < kMaxParts; ++p) {
    if (!parts[p]) continue;
    float* u = shrunk_ + (int64_t{index} * kMaxParts + p) * kMaxRank;
    for (int r = 0; r < parts[p]->rank; ++r) {
      const float* a = parts[p]->a.data() + r * cols;
      float lanes[16] = {};
      int64_t k = 0;
      for (; k + 16 <= cols; k += 16)
        for (int i = 0; i < 16; ++i) lanes[i] += a[k + i] * x[k + i];
      float sum = 0;
      for (float lane : lanes) sum += lane;
      for (; k < cols; ++k) sum += a[k] * x[k];
      u[r] = sum;
    }
  }
}

// out[row][0..16) += scale * B u, rows `first` onwards of a part.
void Executor::add_delta(const Op& op, Rows rows, int part, int64_t first, float* out) const {
  if (!op.has_adapters || !view_->adapter_ids) return;
  const int64_t last = std::min<int64_t>(first + kPanelRows, op.weights[part]->rows);
  for (int i = 0; i < rows.count; ++i) {
    const int32_t id = view_->adapter_ids[rows[i]];
    if (id < 0) continue;
    const AdapterPart* adapter = adapters_[id]->by_op[&op - ops_.data()][part];
    if (!adapter) continue;
    const float* u = shrunk_ + (int64_t{i} * kMaxParts + part) * kMaxRank;
    for (int64_t row = first; row < last; ++row) {
      const float* b = adapter->b.data() + row * adapter->rank;
      float sum = 0;
      for (int r = 0; r < adapter->rank; ++r) sum += b[r] * u[r];
      out[i * kPanelRows + row - first] += adapter->scale * sum;
    }
  }
}

}  // namespace ff
