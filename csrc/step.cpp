// One step: the ops in order, each thread on its share, a barrier where a reader needs one.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "executor.h"

namespace ff {
namespace {

constexpr int kReplicate = 2;    // batches up to this size are packed by every thread for itself
constexpr int kSplitTokens = 4;  // sequences with so few new tokens split their keys over threads
constexpr int64_t kAskBytes = 4096;
constexpr int kScattered = 64;  // so few tokens may all lie in blocks that no cache holds

int64_t clock_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

}  // namespace

void Executor::step(const StepView& view) {
  check(view);
  view_ = &view;
  plan_attention(view);
  plan_tail(view);
  plan_head(view);
  plan_adapters(view);
  for (Op& op : ops_)
    op.split->reset(op.spec.kind == OpKind::Attention ? static_cast<int64_t>(items_of(op).size())
                                                      : op.units);
  threads_.run([this](int thread) { run(thread); });
  view_ = nullptr;
}

void Executor::run(int thread) {
  if (profiling_) profiles_[thread].last_ns = clock_ns();
  for (Op& op : ops_) {
    switch (op.spec.kind) {
      case OpKind::Embed:
        embed(op, thread);
        break;
      case OpKind::Qkv:
        qkv(op, thread);
        break;
      case OpKind::Attention:
        attention(op, thread);
        break;
      case OpKind::Linear:
        linear(op, thread);
        break;
      case OpKind::GateUp:
        gate_up(op, thread);
        break;
      case OpKind::Head:
        head(op, thread);
        break;
      case OpKind::AddNorm:
        add_norm(op, thread);
        break;
    }
    if (&op != &ops_.back()) ask_ahead((&op)[1], thread);
    meet(op, thread, &OpTime::run_ns);
  }
}

// Asks for what the thread will read first of an op: the barrier before it leaves time.
void Executor::ask_ahead(const Op& op, int thread) const {
  auto ask = [](const uint8_t* from, int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line, 0, 2);
  };
  const int64_t unit = op.split->first(thread);
  if (op.spec.kind == OpKind::Attention) {
    const std::vector<AttnItem>& items = items_of(op);
    if (unit >= static_cast<int64_t>(items.size())) return;
    const KvLayer& layer = layers_[op.spec.layer];
    const uint8_t* heads[kBlocksAhead];
    first_blocks(items[unit], layer, op.spec.window, heads);
    for (const uint8_t* head : heads) ask(head, layer.head_bytes);
    return;
  }
  int64_t panel = unit * op.unit_panels;
  for (const Matrix* weights : op.weights) {
    if (panel >= 0 && panel < weights->num_panels) ask(weights->panel(panel), kAskBytes);
    if (op.spec.kind == OpKind::Qkv) panel -= weights->num_panels;
  }
}

// Adds the time since the thread's last lap to one of the op's counters.
void Executor::lap(const Op& op, int thread, int64_t OpTime::* counter) {
  if (!profiling_) return;
  Profile& profile = profiles_[thread];
  const int64_t now = clock_ns();
  profile.ops[&op - ops_.data()].*counter += now - profile.last_ns;
  profile.last_ns = now;
}

// A barrier; the time before it counts as `counter`, the time in it as waiting.
void Executor::meet(const Op& op, int thread, int64_t OpTime::* counter) {
  lap(op, thread, counter);
  threads_.barrier(thread);
  lap(op, thread, &OpTime::wait_ns);
}

void Executor::embed(const Op& op, int thread) {
  const int count = threads_.count(), tokens = view_->num_tokens;
  const int64_t width = op.weights[0]->cols;
  const float scale = op.spec.scale;
  float* row = scratch_[thread].row;
  for (int t = tokens * thread / count; t < tokens * (thread + 1) / count; ++t) {
    kernels_.unpack_row(*op.weights[0], view_->token_ids[t], row);
    float* out = value(op.spec.out) + t * width;
    for (int64_t d = 0; d < width; ++d) out[d] = row[d] * scale;
    float* cos_sin = cos_sin_ + int64_t{t} * sizes_.head_dim;
    for (const int rope : ropes_) {
      const std::vector<float>& inv_freq = vectors_[rope];
      const int half = static_cast<int>(inv_freq.size());
      for (int i = 0; i < half; ++i) {
        const float angle = static_cast<float>(view_->positions[t]) * inv_freq[i];
        cos_sin[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
        cos_sin[i + half] = static_cast<float>(std::sin(static_cast<double>(angle)));
      }
      cos_sin += rope_stride_;
    }
  }
}

// The residual plus the normalised input, row by row.
void Executor::add_norm(const Op& op, int thread) {
  const Rows rows = rows_of(op);
  const int count = threads_.count();
  const int64_t width = op.out_width;
  for (int i = rows.count * thread / count; i < rows.count * (thread + 1) / count; ++i) {
    const int64_t at = rows[i] * width;
    kernels_.add_norm(value(op.spec.in) + at, width, op.norm, op.spec.norm_eps,
                      value(op.spec.residual) + at, value(op.spec.out) + at);
  }
}

// Blocks of a linear's packed input that share a scale; 0: it is not quantised.
int Executor::scale_blocks(const Op& op, int count) const {
  return !op.quantise ? 0 : is_turbo(arithmetic_, count) ? kTurboBlocks : 1;
}

// The input rows of a linear, packed, and what adapters make of them.
const Activations& Executor::prepare(Op& op, int thread, Rows rows) {
  const Activations& input = pack_input(op, thread, rows);
  if (!op.is_adapted) return input;
  shrink(op, input, thread);
  meet(op, thread, &OpTime::pack_ns);
  return input;
}

// Packs the input rows of a linear: every thread for itself when they are few, else shared.
const Activations& Executor::pack_input(const Op& op, int thread, Rows rows) {
  if (&op != ops_.data() && (&op)[-1].feeds_next) return result_;
  const int64_t cols = op.weights[0]->cols;
  const float* in = value(op.spec.in);
  const int count = rows.count;
  const bool replicate = count <= kReplicate;
  Activations& to = replicate ? own_[thread] : shared_;
  const int threads = replicate ? 1 : threads_.count(), me = replicate ? 0 : thread;
  const Activations target =
      activations(replicate ? own_input_[thread] : shared_input_, count, cols);
  if (replicate || thread == 0) to = target;
  // Whole tiles a thread, or all tokens and a share of the columns: a cache line has one writer.
  const bool by_tile = target.num_tiles >= 2 * threads;
  const int parts = by_tile ? threads : 1, columns = by_tile ? 1 : threads;
  const int tile_first = target.num_tiles * (by_tile ? me : 0) / parts;
  const int tile_last = target.num_tiles * (by_tile ? me + 1 : 1) / parts;
  const int first = target.num_blocks * (by_tile ? 0 : me) / columns;
  const int last = target.num_blocks * (by_tile ? 1 : me + 1) / columns;
  const int begin = target.start(tile_first);
  const int end = tile_last == target.num_tiles ? count : target.start(tile_last);
  for (int i = begin; i < end; ++i) {
    const int64_t token = rows[i];
    kernels_.pack_row(in + token * cols, cols, op.norm, op.spec.norm_eps, scale_blocks(op, count),
                      op.keep_values, target, i, first, last, scratch_[thread].row);
  }
  if (!replicate)
    meet(op, thread, &OpTime::pack_ns);
  else
    lap(op, thread, &OpTime::pack_ns);
  return to;
}

void Executor::qkv(Op& op, int thread) {
  const OpSpec& spec = op.spec;
  const int tokens = view_->num_tokens, dim = spec.head_dim, panels = dim / kPanelRows;
  const Rows rows{tokens, nullptr};
  const Activations& input = prepare(op, thread, rows);
  const Scratch& scratch = scratch_[thread];
  float* q = value(spec.out);
  const int64_t q_width = int64_t{spec.num_q_heads} * dim;
  AttnShape shape{};
  shape.num_kv_heads = spec.num_kv_heads;
  shape.head_dim = dim;
  shape.kv_type = sizes_.kv_type;
  op.split->each(thread, [&](int64_t unit) {
    int part = 0;
    int64_t head = unit;
    const int64_t bias_row = unit * dim;
    if (unit >= spec.num_q_heads) {
      part = unit < spec.num_q_heads + spec.num_kv_heads ? 1 : 2;
      head = (unit - spec.num_q_heads) % spec.num_kv_heads;
    }
    float* out = scratch.out;  // [panel][token][16]
    for (int p = 0; p < panels; ++p) {
      if (part > 0 && tokens <= kScattered)
        for (int t = tokens * p / panels; t < tokens * (p + 1) / panels; ++t)
          kernels_.prefetch_kv(layers_[spec.layer], shape, view_->slot_mapping[t],
                               static_cast<int>(head), part == 2);
      fetch_with(op, thread, part, head * panels + p);
      kernels_.panel(*op.weights[part], head * panels + p, input, arithmetic_, scratch,
                     out + int64_t{p} * tokens * kPanelRows);
      add_delta(op, part, head * panels + p, out + int64_t{p} * tokens * kPanelRows);
    }
    alignas(64) float row[512];
    for (int t = 0; t < tokens; ++t) {
      for (int p = 0; p < panels; ++p)
        std::memcpy(row + p * kPanelRows, out + (int64_t{p} * tokens + t) * kPanelRows,
                    sizeof(float) * kPanelRows);
      if (op.bias)
        for (int d = 0; d < dim; ++d) row[d] += op.bias[bias_row + d];
      if (part < 2) {
        const float* norm = part == 0 ? op.q_norm : op.k_norm;
        if (norm) kernels_.norm_head(row, dim, norm, spec.head_eps);
        kernels_.rope_head(row, dim, cos_sin_ + op.rope * rope_stride_ + int64_t{t} * dim);
      }
      if (part == 0)
        kernels_.store_rows(row, panels, kPanelRows, nullptr, nullptr, kPanelRows,
                            q + t * q_width + head * dim);
      else
        kernels_.store_kv(layers_[spec.layer], shape, view_->slot_mapping[t],
                          static_cast<int>(head), part == 2, row);
    }
  });
}

// Work items of this step's attention, the same for every layer (windows only skip keys).
void Executor::plan_attention(const StepView& view) {
  items_.clear();
  num_partials_ = num_sets_ = 0;
  const OpSpec* spec = nullptr;
  for (const Op& op : ops_)
    if (op.spec.kind == OpKind::Attention) spec = &op.spec;
  if (!spec) return;
  const int group = spec->num_q_heads / spec->num_kv_heads, per_item = kAttnRows / group;
  for (int s = 0; s < view.num_sequences; ++s) {
    const int begin = view.cu_seqlens[s], end = view.cu_seqlens[s + 1];
    for (int h = 0; h < spec->num_kv_heads; ++h) {
      for (int t = end; t > begin;) {  // the longest rows first
        AttnItem item{};
        item.num_tokens = std::min(per_item, t - begin);
        t -= item.num_tokens;
        item.sequence = s;
        item.kv_head = h;
        item.token = t;
        int keys = 0;
        for (int i = 0; i < item.num_tokens; ++i) keys = std::max(keys, view.positions[t + i] + 1);
        const int chunks = (keys + kKvChunk - 1) / kKvChunk;
        item.num_chunks = chunks;
        if (chunks == 1 || end - begin > kSplitTokens) {
          items_.push_back(item);
          continue;
        }
        item.total_chunks = chunks;
        item.partial = static_cast<int>(num_partials_);
        item.set = static_cast<int>(num_sets_++);
        num_partials_ += chunks;
        for (int c = 0; c < chunks; ++c) {
          item.first_chunk = c;
          item.num_chunks = 1;
          items_.push_back(item);
        }
      }
    }
  }
  const size_t floats = static_cast<size_t>(num_partials_) * kAttnRows * (spec->head_dim + 16);
  if (floats > partials_.size()) partials_.resize(floats);  // never shrunk: growing clears
  const size_t counters = static_cast<size_t>(num_sets_) * sizes_.num_layers;
  if (counters > num_left_) {
    left_ = std::make_unique<std::atomic<int>[]>(counters);
    num_left_ = counters;
  }
  for (const AttnItem& item : items_)
    if (item.partial >= 0 && item.first_chunk == 0)
      for (int layer = 0; layer < sizes_.num_layers; ++layer)
        left_[layer * num_sets_ + item.set].store(item.total_chunks, std::memory_order_relaxed);
}

// Narrows the items to the tokens whose logits are wanted, for the last layer.
void Executor::plan_tail(const StepView& view) {
  tail_rows_.assign(view.logit_rows, view.logit_rows + view.num_rows);
  std::sort(tail_rows_.begin(), tail_rows_.end());
  tail_rows_.erase(std::unique(tail_rows_.begin(), tail_rows_.end()), tail_rows_.end());
  tail_ = static_cast<int>(tail_rows_.size()) < view.num_tokens;
  tail_items_.clear();
  if (!tail_) return;
  for (AttnItem item : items_) {
    const auto begin = std::lower_bound(tail_rows_.begin(), tail_rows_.end(), item.token);
    const auto end = std::lower_bound(begin, tail_rows_.end(), item.token + item.num_tokens);
    if (begin == end) continue;
    if (item.partial < 0) {  // the chunks of a split set keep the same rows
      item.token = *begin;
      item.num_tokens = end[-1] + 1 - item.token;
    }
    tail_items_.push_back(item);
  }
}

const std::vector<AttnItem>& Executor::items_of(const Op& op) const {
  return tail_ && &op == &ops_[last_attention_] ? tail_items_ : items_;
}

Executor::Rows Executor::rows_of(const Op& op) const {
  if (!tail_ || static_cast<size_t>(&op - ops_.data()) <= last_attention_)
    return {view_->num_tokens, nullptr};
  return {static_cast<int>(tail_rows_.size()), tail_rows_.data()};
}

// The heads of the first blocks that an item reads; where it has fewer, the last again.
void Executor::first_blocks(const AttnItem& item, const KvLayer& layer, int window,
                            const uint8_t** heads) const {
  const int32_t* table = view_->block_tables + int64_t{item.sequence} * view_->max_blocks;
  const int seen_from = window ? std::max(0, view_->positions[item.token] + 1 - window) : 0;
  const int first = std::max(item.first_chunk * kKvChunk, seen_from / kKvTile * kKvTile);
  const int last = (view_->seq_lens[item.sequence] - 1) / kKvBlock;
  for (int b = 0; b < kBlocksAhead; ++b)
    heads[b] = layer.head(table[std::min(first / kKvBlock + b, last)], item.kv_head);
}

void Executor::attention(Op& op, int thread) {
  const OpSpec& spec = op.spec;
  const std::vector<AttnItem>& items = items_of(op);
  AttnShape shape;
  shape.num_q_heads = spec.num_q_heads;
  shape.num_kv_heads = spec.num_kv_heads;
  shape.head_dim = spec.head_dim;
  shape.group = spec.num_q_heads / spec.num_kv_heads;
  shape.window = spec.window;
  shape.scale = spec.scale;
  shape.softcap = spec.softcap;
  shape.kv_type = sizes_.kv_type;
  shape.q_stride = int64_t{spec.num_q_heads} * spec.head_dim;
  const KvLayer& layer = layers_[spec.layer];
  op.split->each(thread, [&](int64_t unit) {
    const AttnItem& item = items[unit];
    const uint8_t* following[kBlocksAhead];
    first_blocks(items[std::min<size_t>(unit + 1, items.size() - 1)], layer, spec.window,
                 following);
    kernels_.attend(item, shape, layer, value(spec.in), view_->positions,
                    view_->block_tables + int64_t{item.sequence} * view_->max_blocks, following,
                    value(spec.out), partials_.data(), scratch_[thread]);
    if (item.partial >= 0 &&
        left_[spec.layer * num_sets_ + item.set].fetch_sub(1, std::memory_order_acq_rel) == 1)
      kernels_.merge(item, shape, partials_.data(), value(spec.out));
  });
}

// Writes a panel's results, [row][16], to the places of the rows' tokens.
void Executor::store(Rows rows, const float* from, int width, const float* bias,
                     const float* residual, int64_t stride, float* out) const {
  const int piece = rows.ids ? 1 : rows.count;  // rows that lie side by side
  for (int i = 0; i < rows.count; i += piece) {
    const int64_t at = rows[i] * stride;
    kernels_.store_rows(from + i * kPanelRows, piece, width, bias,
                        residual ? residual + at : nullptr, stride, out + at);
  }
}

void Executor::linear(Op& op, int thread) {
  const Rows rows = rows_of(op);
  if (rows.count == 0) return;
  const Activations& input = prepare(op, thread, rows);
  const Scratch& scratch = scratch_[thread];
  const Matrix& weight = *op.weights[0];
  float* out = value(op.spec.out);
  const float* residual = op.spec.residual >= 0 ? value(op.spec.residual) : nullptr;
  op.split->each(thread, [&](int64_t unit) {
    fetch_with(op, thread, 0, unit);
    kernels_.panel(weight, unit, input, arithmetic_, scratch, scratch.out);
    const int64_t first = unit * kPanelRows;
    add_delta(op, 0, unit, scratch.out);
    const int width = static_cast<int>(std::min<int64_t>(kPanelRows, weight.rows - first));
    store(rows, scratch.out, width, op.bias ? op.bias + first : nullptr,
          residual ? residual + first : nullptr, weight.rows, out + first);
  });
}

void Executor::gate_up(Op& op, int thread) {
  const Rows rows = rows_of(op);
  if (rows.count == 0) return;
  const Activations& input = prepare(op, thread, rows);
  const Scratch& scratch = scratch_[thread];
  const int64_t floats = int64_t{rows.count} * kPanelRows, stride = op.out_width;
  float* out = value(op.spec.out);
  const bool packs = op.feeds_next;
  const Activations result = activations(reinterpret_cast<uint8_t*>(out), rows.count, stride);
  if (packs && thread == 0) result_ = result;  // read after the barrier that ends this op
  const auto activate = op.spec.gelu ? kernels_.gelu_mul : kernels_.silu_mul;
  op.split->each(thread, [&](int64_t unit) {
    const int64_t begin = unit * op.unit_panels;
    const int64_t end = std::min(begin + op.unit_panels, op.weights[0]->num_panels);
    float* gate = scratch.out;
    for (int64_t panel = begin; panel < end; ++panel, gate += floats) {
      float* up = gate + floats;
      const int64_t first = panel * kPanelRows;
      fetch_with(op, thread, 0, panel);
      kernels_.panel(*op.weights[0], panel, input, arithmetic_, scratch, gate);
      fetch_with(op, thread, 1, panel);
      kernels_.panel(*op.weights[1], panel, input, arithmetic_, scratch, up);
      add_delta(op, 0, panel, gate);
      add_delta(op, 1, panel, up);
      activate(gate, up, floats, gate);
      const int width = static_cast<int>(std::min<int64_t>(kPanelRows, stride - first));
      if (!packs) store(rows, gate, width, nullptr, nullptr, stride, out + first);
    }
    if (!packs) return;
    std::fill(gate, gate + floats * (end - begin & 1), 0.0f);  // the last block's missing half
    kernels_.pack_panels(scratch.out, floats, scale_blocks((&op)[1], rows.count), result,
                         static_cast<int>(begin / 2), static_cast<int>((end + 1) / 2));
  });
}

}  // namespace ff
