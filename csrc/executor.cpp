// Setting up: weights, ops, buffers; and the checks that every step passes before it runs.
#include "executor.h"
#include "require.h"

#include <algorithm>

namespace ff {

Executor::Executor(std::shared_ptr<Threads> threads, const Kernels& kernels, Arithmetic arithmetic)
    : kernels_(kernels),
      arithmetic_(arithmetic),
      shared_threads_(std::move(threads)),
      threads_(*shared_threads_) {}

int Executor::add_vector(std::vector<float> values) {
  vectors_.push_back(std::move(values));
  return static_cast<int>(vectors_.size()) - 1;
}

// The one of ropes_ with the same frequencies.
int Executor::rope_of(int inv_freq) {
  const auto known = std::find_if(ropes_.begin(), ropes_.end(),
                                  [&](int other) { return vectors_[other] == vectors_[inv_freq]; });
  const int rope = static_cast<int>(known - ropes_.begin());
  if (known == ropes_.end()) ropes_.push_back(inv_freq);
  return rope;
}

void Executor::add_op(const OpSpec& spec) {
  Op op;
  op.spec = spec;
  for (int id : spec.matrices) {
    require(id >= 0 && id < static_cast<int>(matrices_.size()), "op: unknown matrix");
    op.weights.push_back(matrices_[id].get());
  }
  for (int id : {spec.norm, spec.bias, spec.q_norm, spec.k_norm, spec.inv_freq})
    require(id >= -1 && id < static_cast<int>(vectors_.size()), "op: unknown vector");
  const bool no_matrix = spec.kind == OpKind::Attention || spec.kind == OpKind::AddNorm;
  require(op.weights.empty() == no_matrix, "op: no matrix, or one too many");
  for (const Matrix* matrix : op.weights) {
    require(matrix->cols == op.weights[0]->cols, "op: parts of different width");
    max_cols_ = std::max(max_cols_, matrix->num_blocks * kBlock);
    op.out_width += matrix->rows;
    if (info(matrix->scheme).is_float || arithmetic_ == Arithmetic::Float)
      op.keep_values = true;
    else
      op.quantise = true;
  }
  const int64_t heads = spec.num_q_heads + 2 * spec.num_kv_heads;
  int64_t bias_size = op.out_width;
  switch (spec.kind) {
    case OpKind::Qkv:
      require(op.weights.size() == 3 && spec.head_dim % kPanelRows == 0 && spec.head_dim > 0 &&
                  spec.head_dim <= 512,
              "head_dim must be a multiple of 16, at most 512");
      require(op.weights[0]->rows == int64_t{spec.num_q_heads} * spec.head_dim &&
                  op.weights[1]->rows == int64_t{spec.num_kv_heads} * spec.head_dim &&
                  op.weights[2]->rows == op.weights[1]->rows,
              "qkv: rows do not match the heads");
      require(spec.inv_freq >= 0 &&
                  static_cast<int>(vectors_[spec.inv_freq].size()) == spec.head_dim / 2,
              "qkv: inv_freq");
      op.rope = rope_of(spec.inv_freq);
      op.unit_panels = spec.head_dim / kPanelRows;
      op.units = heads;
      break;
    case OpKind::Attention:
      require(spec.num_kv_heads > 0 && spec.num_q_heads % spec.num_kv_heads == 0,
              "attention: heads must divide");
      require(spec.num_q_heads / spec.num_kv_heads <= kAttnRows,
              "attention: at most 16 query heads for one KV head");
      break;
    case OpKind::AddNorm:
      require(spec.norm >= 0 && spec.residual >= 0, "add_norm: norm and residual");
      op.out_width = static_cast<int64_t>(vectors_[spec.norm].size());
      break;
    case OpKind::GateUp:
      require(op.weights.size() == 2 && op.weights[0]->rows == op.weights[1]->rows, "gate_up");
      op.out_width = op.weights[0]->rows;
      op.unit_panels = 2 * (arithmetic_ == Arithmetic::Turbo ? kTurboBlocks : 1);
      op.units = (op.weights[0]->num_panels + op.unit_panels - 1) / op.unit_panels;
      break;
    default:
      require(op.weights.size() == 1, "op: one matrix");
      op.units = op.weights[0]->num_panels;
  }
  const int64_t cols = op.weights.empty() ? op.out_width : op.weights[0]->cols;
  auto vector = [&](int id, int64_t size) -> const float* {
    if (id < 0) return nullptr;
    require(static_cast<int64_t>(vectors_[id].size()) == size, "op: vector of wrong size");
    return vectors_[id].data();
  };
  op.norm = vector(spec.norm, cols);
  op.bias = vector(spec.bias, bias_size);
  op.q_norm = vector(spec.q_norm, spec.head_dim);
  op.k_norm = vector(spec.k_norm, spec.head_dim);
  op.split = std::make_unique<Split>(threads_.count());
  op.low_split = std::make_unique<Split>(threads_.count());
  ops_.push_back(std::move(op));
}

// Packed input of `count` tokens: words, scales, sums (twice), values.
Activations Executor::activations(uint8_t* base, int count, int64_t cols) const {
  Activations a;
  a.num_tokens = count;
  a.num_tiles = (count + kernels_.tile - 1) / kernels_.tile;
  a.num_blocks = static_cast<int>((cols + kBlock - 1) / kBlock);
  const int64_t blocks = int64_t{count} * a.num_blocks;
  a.words = reinterpret_cast<int32_t*>(base);
  a.scale = reinterpret_cast<float*>(a.words + blocks * 8);
  a.scaled_sum = a.scale + blocks;
  a.minus_sum = reinterpret_cast<int32_t*>(a.scaled_sum + blocks);
  a.values = reinterpret_cast<float*>(a.minus_sum + 2 * blocks);
  return a;
}

// Marks every gate_up whose result only the next op reads, as packed int8: it may be left packed.
void Executor::mark_feeds() {
  for (size_t i = 0; i + 1 < ops_.size(); ++i) {
    Op& op = ops_[i];
    const Op& next = ops_[i + 1];
    if (op.spec.kind != OpKind::GateUp || next.spec.kind != OpKind::Linear) continue;
    op.feeds_next = next.spec.in == op.spec.out && next.spec.residual != op.spec.out &&
                    next.quantise && !next.keep_values && !next.norm;
    for (size_t j = i + 2; j < ops_.size() && ops_[j - 1].spec.out != op.spec.out; ++j)
      if (ops_[j].spec.in == op.spec.out || ops_[j].spec.residual == op.spec.out)
        op.feeds_next = false;
  }
}

// What the ops take for granted of each other, of the cache and of the arena.
void Executor::check_ops(const Sizes& sizes) const {
  require(!ops_.empty() && ops_.back().spec.kind == OpKind::Head, "the last op must be the head");
  require(ops_.back().weights[0]->rows == sizes.vocab_size, "vocab_size");
  require(sizes.head_rows <= sizes.vocab_size, "head_rows: more than the vocabulary");
  const OpSpec *qkv = nullptr, *attention = nullptr;
  for (const Op& op : ops_) {
    const OpSpec& spec = op.spec;
    if (spec.kind == OpKind::Qkv || spec.kind == OpKind::Attention) {
      require(spec.layer >= 0 && spec.layer < sizes.num_layers, "op: layer out of range");
      require(spec.num_kv_heads == sizes.num_kv_heads && spec.head_dim == sizes.head_dim,
              "op: heads do not match the cache");
      const OpSpec*& first = spec.kind == OpKind::Qkv ? qkv : attention;
      if (!first) first = &spec;
      require(spec.num_q_heads == first->num_q_heads, "op: layers with different heads");
    }
    const int64_t q_width = int64_t{spec.num_q_heads} * spec.head_dim;
    const bool is_attention = spec.kind == OpKind::Attention;
    const int64_t in_width = is_attention         ? q_width
                             : op.weights.empty() ? op.out_width
                                                  : op.weights[0]->cols;
    const int64_t out_width = spec.kind == OpKind::Embed                 ? in_width
                              : is_attention || spec.kind == OpKind::Qkv ? q_width
                                                                         : op.out_width;
    auto inside = [&](int64_t offset, int64_t width) {
      return offset >= 0 && offset % alignof(float) == 0 &&
             offset + width * 4 * sizes.max_tokens <= sizes.arena_bytes;
    };
    const bool has_in = spec.kind != OpKind::Embed, has_out = spec.kind != OpKind::Head;
    require(!has_in || inside(spec.in, in_width), "op: input outside the arena");
    require(!has_out || inside(spec.out, out_width), "op: output outside the arena");
    require(spec.residual < 0 || inside(spec.residual, out_width), "op: residual outside");
    // One thread may write results while another still reads its input.
    require(!has_in || !has_out || spec.out + out_width * 4 * sizes.max_tokens <= spec.in ||
                spec.in + in_width * 4 * sizes.max_tokens <= spec.out,
            "op: output over its own input");
  }
}

size_t Executor::Layout::scratch(int threads) const {
  const size_t thread = row + weights + scales + out + scores + attn + 3 * per_vocab + own;
  return thread * threads + shared + cos_sin + logits + shrunk;
}

Executor::Layout Executor::layout(const Sizes& sizes) const {
  int64_t widest_unit = kPanelRows;
  for (const Op& op : ops_) {
    if (op.spec.kind == OpKind::Qkv) widest_unit = std::max<int64_t>(widest_unit, op.spec.head_dim);
    if (op.spec.kind == OpKind::GateUp)
      widest_unit = std::max<int64_t>(widest_unit, (op.unit_panels + 1) * kPanelRows);
  }
  const int64_t blocks = max_cols_ / kBlock, vocab = (sizes.vocab_size + 15) / 16 * 16;
  const int64_t tokens = std::max(sizes.max_tokens, kHeadRows);
  auto input_bytes = [&](int64_t count) {
    return aligned(count * blocks * (kBlock * 4 + 32 + 4 * 4));
  };
  Layout bytes{};
  bytes.row = aligned(max_cols_ * 4);
  bytes.weights = aligned(max_cols_ * 16 + 4096);
  bytes.scales = aligned(blocks * 64 * 4);
  bytes.out = aligned(tokens * widest_unit * 4 + 1024);
  bytes.scores = aligned(kAttnRows * kKvTile * 4 + 1024);
  bytes.attn = aligned(int64_t{kAttnRows} * 3 * sizes.head_dim * 4);
  bytes.per_vocab = aligned(vocab * 4);
  bytes.own = input_bytes(2);
  bytes.shared = input_bytes(tokens);
  bytes.cos_sin = aligned(ropes_.size() * tokens * sizes.head_dim * 4);
  bytes.logits_row = (vocab / 16 | 1) * 64;  // rows of one column lie in different sets of a cache
  bytes.logits = aligned(kHeadRows * bytes.logits_row);
  bytes.shrunk = aligned(tokens * kMaxParts * sizeof(Shrunk));
  bytes.kv_head = kernels_.kv_head_bytes(sizes.kv_type, sizes.head_dim);
  bytes.kv_layer = bytes.kv_head * sizes.num_kv_heads;
  bytes.kv_block = bytes.kv_layer * sizes.num_layers;
  return bytes;
}

void Executor::finish(const Sizes& sizes) {
  require(layers_.empty(), "finish() has been called already");
  require(weights_.bytes() > 0, "pack() has not been called");
  require(sizes.max_tokens > 0 && sizes.max_sequences > 0 && sizes.num_blocks > 0, "sizes");
  require(sizes.num_blocks <= INT32_MAX / kKvBlock, "num_blocks: slots must fit 32 bits");
  check_ops(sizes);
  mark_feeds();
  sizes_ = sizes;
  ops_.back().units = (sizes.head_rows + kPanelRows - 1) / kPanelRows;
  for (const Op& op : ops_)
    if (op.spec.kind == OpKind::Attention) last_attention_ = &op - ops_.data();
  rope_stride_ = std::max<int64_t>(sizes.max_tokens, kHeadRows) * sizes.head_dim;
  const Layout bytes = layout(sizes);
  arena_ = Arena(sizes.arena_bytes);
  kv_ = Arena(bytes.kv_block * sizes.num_blocks);
  prefault_.start(kv_.data(), kv_.bytes());
  for (int i = 0; i < sizes.num_layers; ++i)
    layers_.push_back({kv_.data() + i * bytes.kv_layer, static_cast<int64_t>(bytes.kv_head),
                       static_cast<int64_t>(bytes.kv_block)});
  scratch_arena_ = Arena(bytes.scratch(threads_.count()));
  uint8_t* at = scratch_arena_.data();
  auto take = [&](size_t size) {
    uint8_t* start = at;
    at += size;
    return start;
  };
  ahead_.resize(threads_.count());
  fetches_.resize(threads_.count());
  for (int i = 0; i < threads_.count(); ++i) {
    Scratch scratch;
    scratch.row = reinterpret_cast<float*>(take(bytes.row));
    scratch.weights = take(bytes.weights);
    scratch.scales = reinterpret_cast<float*>(take(bytes.scales));
    scratch.out = reinterpret_cast<float*>(take(bytes.out));
    scratch.scores = reinterpret_cast<float*>(take(bytes.scores));
    scratch.attn = reinterpret_cast<float*>(take(bytes.attn));
    scratch.sample = reinterpret_cast<float*>(take(bytes.per_vocab));
    scratch.counts = reinterpret_cast<int32_t*>(take(bytes.per_vocab));
    scratch.candidates = reinterpret_cast<int32_t*>(take(bytes.per_vocab));
    scratch.fetches = &fetches_[i];
    scratch_.push_back(scratch);
    own_input_.push_back(take(bytes.own));
  }
  own_.resize(threads_.count());
  peaks_.assign(threads_.count(), std::vector<RowPeak>(kHeadRows));
  shared_input_ = take(bytes.shared);
  cos_sin_ = reinterpret_cast<float*>(take(bytes.cos_sin));
  logits_ = reinterpret_cast<float*>(take(bytes.logits));
  shrunk_ = reinterpret_cast<Shrunk*>(take(bytes.shrunk));
  logits_stride_ = static_cast<int64_t>(bytes.logits_row / 4);
  for (int i = 0; i < sizes.max_tokens / kHeadRows + 2; ++i)  // whole and narrow rows apart
    head_splits_.push_back(std::make_unique<Split>(threads_.count()));
}

void Executor::profile(bool on) {
  profiling_ = on;
  if (!on) return;
  profiles_ = std::vector<Profile>(threads_.count());
  for (Profile& profile : profiles_) profile.ops.resize(ops_.size());
}

std::vector<Executor::OpTime> Executor::op_times() const {
  std::vector<OpTime> mean(profiles_.empty() ? 0 : ops_.size());
  for (size_t i = 0; i < mean.size(); ++i) {
    for (const Profile& profile : profiles_) {
      mean[i].pack_ns += profile.ops[i].pack_ns;
      mean[i].run_ns += profile.ops[i].run_ns;
      mean[i].wait_ns += profile.ops[i].wait_ns;
    }
    for (int64_t* sum : {&mean[i].pack_ns, &mean[i].run_ns, &mean[i].wait_ns})
      *sum /= threads_.count();
  }
  return mean;
}

void Executor::check(const StepView& v) const {
  require(!layers_.empty(), "finish() has not been called");
  require(v.num_tokens >= 1 && v.num_tokens <= sizes_.max_tokens, "token_ids: too many or none");
  require(v.num_sequences >= 1 && v.num_sequences <= sizes_.max_sequences, "too many sequences");
  require(v.num_rows >= 0 && v.num_rows <= v.num_tokens, "logit_rows: too many");
  require(v.cu_seqlens[0] == 0 && v.cu_seqlens[v.num_sequences] == v.num_tokens, "cu_seqlens");
  const int64_t slots = sizes_.num_blocks * kKvBlock;
  for (int s = 0; s < v.num_sequences; ++s) {
    require(v.cu_seqlens[s] < v.cu_seqlens[s + 1] && v.cu_seqlens[s + 1] <= v.num_tokens,
            "cu_seqlens: must rise to the number of tokens");
    const int64_t blocks = (int64_t{v.seq_lens[s]} + kKvBlock - 1) / kKvBlock;
    require(v.seq_lens[s] >= 1 && v.seq_lens[s] <= sizes_.max_model_len && blocks <= v.max_blocks,
            "seq_lens: longer than the context or its block table");
    for (int64_t b = 0; b < blocks; ++b) {
      const int32_t block = v.block_tables[int64_t{s} * v.max_blocks + b];
      require(block >= 0 && block < sizes_.num_blocks, "block_tables: no such block");
    }
    for (int t = v.cu_seqlens[s]; t < v.cu_seqlens[s + 1]; ++t)
      require(v.positions[t] >= 0 && v.positions[t] < v.seq_lens[s], "positions: past seq_lens");
  }
  for (int t = 0; t < v.num_tokens; ++t) {
    require(v.token_ids[t] >= 0 && v.token_ids[t] < sizes_.vocab_size, "token_ids: no such token");
    require(v.slot_mapping[t] >= 0 && v.slot_mapping[t] < slots, "slot_mapping: no such slot");
    if (v.adapter_ids)
      require(v.adapter_ids[t] >= -1 &&
                  (v.adapter_ids[t] < 0 || (v.adapter_ids[t] < static_cast<int>(adapters_.size()) &&
                                            adapters_[v.adapter_ids[t]])),
              "adapter_ids: no such adapter");
  }
  for (int r = 0; r < v.num_rows; ++r) {
    require(v.logit_rows[r] >= 0 && v.logit_rows[r] < v.num_tokens, "logit_rows: no such token");
    const SampleRow& row = v.rows[r];
    require(row.target < sizes_.head_rows && row.num_logprobs <= v.top_stride, "rows: target");
    require(row.history_start >= 0 && row.history_len >= 0 &&
                int64_t{row.history_start} + row.history_len <= v.history_len,
            "rows: history");
    require(row.bias_start >= 0 && row.bias_len >= 0 &&
                int64_t{row.bias_start} + row.bias_len <= v.bias_len,
            "rows: bias");
    require(row.mask_row < v.num_masks, "rows: mask_row");
    require(row.temperature >= 0 && row.repetition_penalty > 0, "rows: temperature or penalty");
  }
  for (int64_t i = 0; i < v.history_len; ++i)
    require(v.sample.history[i] >= 0 && v.sample.history[i] < sizes_.vocab_size, "history");
  for (int64_t i = 0; i < v.bias_len; ++i)
    require(v.sample.bias_ids[i] >= 0 && v.sample.bias_ids[i] < sizes_.vocab_size, "bias_ids");
  require(v.num_masks == 0 || v.sample.mask_words * 32 >= sizes_.vocab_size, "masks: too narrow");
}

}  // namespace ff
