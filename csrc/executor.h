// Runs a plan: a straight line of ops over one arena, the same line for prefill, decode and mixed
// batches. Owns packed weights, KV cache, step buffers and the threads. Knows nothing of Python,
// requests or files.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arena.h"
#include "kernels/kernels.h"
#include "pack.h"
#include "prefault.h"
#include "threads.h"

namespace ff {

constexpr int kMaxParts = 3;  // matrices of an op: query, key and value

enum class OpKind { Embed, Qkv, Attention, Linear, GateUp, Head, AddNorm };

// Values are byte offsets into the arena, -1 for none; vectors and matrices are indices.
struct OpSpec {
  OpKind kind;
  int64_t in = -1, out = -1, residual = -1;
  std::vector<int> matrices;
  int norm = -1, bias = -1, q_norm = -1, k_norm = -1, inv_freq = -1;
  float norm_eps = 0, head_eps = 0, scale = 1, softcap = 0;  // softcap 0: none
  int layer = -1, num_q_heads = 0, num_kv_heads = 0, head_dim = 0, window = 0;
  int gelu = 0;  // gate_up: gelu instead of silu
};

struct Sizes {
  int max_tokens, max_sequences, vocab_size, max_model_len;
  int num_layers, num_kv_heads, head_dim;
  int64_t num_blocks, arena_bytes;
  KvType kv_type;
  int head_rows;  // of the vocabulary, that can be chosen: tokens 0 to head_rows - 1
};

// Bytes of what an executor owns, in whole pages.
struct Memory {
  size_t weight_bytes, kv_bytes, buffer_bytes;
};

// A low-rank adapter of one part of a linear: y += scale * B (A x).
struct AdapterPart {
  int op, part, rank;
  float scale;
  const float* a;  // rank x cols
  const float* b;  // rows x rank
  int64_t rows, cols;
};

// An adapter as the kernels read it.
struct Adapter {
  Arena memory;
  std::vector<std::array<LowRank, kMaxParts>> ops;  // [op][part]
};

struct StepView {
  int num_tokens, num_sequences, num_rows, max_blocks;
  const int32_t *token_ids, *positions, *slot_mapping, *cu_seqlens, *seq_lens, *block_tables;
  const int32_t* logit_rows;
  const int32_t* adapter_ids;  // per token, -1 none; null when no token has one
  const SampleRow* rows;
  SampleInputs sample;
  int64_t history_len, bias_len, num_masks;
  // results
  int32_t *tokens, *ranks, *top_ids;
  float *logprobs, *top_logprobs;
  uint8_t* bad;
  int top_stride;
  float* logits;  // optional copy of all rows, R x V, for tests and evaluation; -inf where a mask
                  // made it needless to compute one
};

// Up to `max_steps` decode steps in one call. It ends early after a step in which a row was bad or
// chose one of its stop ids (of row r: stop_starts[r] to stop_starts[r + 1]), and once *new_work is
// not 0. Masks stay as they are. Results are those of the steps one after the other.
struct Burst {
  int max_steps, num_stop_ids;
  const int32_t *stop_ids, *stop_starts, *new_work;
};

class Executor {
 public:
  // Executors may share threads; then a call of one may not overlap with a call of another.
  Executor(std::shared_ptr<Threads> threads, const Kernels& kernels, Arithmetic arithmetic);

  // Nothing large is allocated before pack() and finish(); memory() says beforehand what will be.
  int add_matrix(const FileMatrix& shape);  // its sizes only
  int add_vector(std::vector<float> values);
  void add_op(const OpSpec& spec);
  Memory memory(const Sizes& sizes) const;
  Memory allocated() const;

  // Packs one source for each matrix added, in that order. Of sources that are `mapped` files,
  // pages are asked for ahead and dropped when packed. What is wrong with the first bad one is
  // returned.
  struct Failure {
    int matrix;
    std::string problem;
  };
  std::optional<Failure> pack(const std::vector<FileMatrix>& sources, bool mapped);
  void finish(const Sizes& sizes);  // after the last op, once

  // Packing takes milliseconds and may run beside a step; adding and removing may not.
  std::unique_ptr<Adapter> pack_adapter(const std::vector<AdapterPart>& parts) const;
  void make_room_ready() const { spare_.refill(); }  // for the next to be packed; beside steps too
  int add_adapter(std::unique_ptr<Adapter> adapter);
  void remove_adapter(int id);

  // One forward pass and one choice a logit row. Throws std::invalid_argument on inputs that would
  // read or write outside what belongs to them. One call at a time; no adapter comes or goes in it.
  void step(const StepView& view);
  int burst(const StepView& first, const Burst& burst);  // returns how many steps ran

  // Nanoseconds of each op since profiling began, on the average thread: packing the input,
  // computing, waiting at barriers. Switching on clears.
  struct OpTime {
    int64_t pack_ns = 0, run_ns = 0, wait_ns = 0;
  };
  void profile(bool on);
  std::vector<OpTime> op_times() const;

  int num_threads() const { return threads_.count(); }
  std::shared_ptr<Threads> threads() const { return shared_threads_; }
  int vocab_size() const { return sizes_.vocab_size; }
  const char* isa() const { return kernels_.name; }

 private:
  struct Op {
    OpSpec spec;
    std::vector<const Matrix*> weights;
    const float *norm = nullptr, *bias = nullptr, *q_norm = nullptr, *k_norm = nullptr;
    int64_t units = 0;
    int64_t out_width = 0;
    bool quantise = false, keep_values = false;
    int unit_panels = 1;      // gate_up: panels of each matrix in a unit
    bool feeds_next = false;  // gate_up: only the next op reads the result
    std::unique_ptr<Split> split;
    int rope = 0;                      // which of ropes_
    std::unique_ptr<Split> low_split;  // of the adapters' runs, where this step has some
    bool is_adapted = false;           // in this step
  };

  // The tokens that an op computes: all of the step's, or those that logits are wanted of.
  struct Rows {
    int count;
    const int32_t* ids;  // null: 0 to count - 1

    int32_t operator[](int i) const { return ids ? ids[i] : i; }
  };

  // Tokens of a tile that lie side by side and have the same adapter.
  struct Run {
    const Adapter* adapter;
    int row, tile, first, count;  // `row` of the op's rows is token `first` of the tile
  };

  struct Layout {                                                    // bytes of each buffer
    size_t row, weights, scales, out, scores, attn, per_vocab, own;  // of each thread
    size_t shared, cos_sin, logits_row, logits, shrunk;
    size_t kv_head, kv_layer, kv_block;
    size_t scratch(int threads) const;
  };
  Layout layout(const Sizes& sizes) const;
  int rope_of(int inv_freq);
  // Rows of head_rows_ whose logits are computed together.
  struct HeadGroup {
    int first, count, num_greedy;  // greedy rows come first
    std::vector<int64_t> panels;   // the panels that any of them needs; empty: all
  };

  void mark_feeds();
  void check_ops(const Sizes& sizes) const;
  void check(const StepView& view) const;
  void check_burst(const StepView& view, const Burst& burst) const;
  void plan_attention(const StepView& view);
  void plan_tail(const StepView& view);
  Rows rows_of(const Op& op) const;
  const std::vector<AttnItem>& items_of(const Op& op) const;
  void run(int thread);
  void ask_ahead(const Op& op, int thread) const;
  void lap(const Op& op, int thread, int64_t OpTime::* counter);
  void meet(const Op& op, int thread, int64_t OpTime::* counter);
  void embed(const Op& op, int thread);
  void qkv(Op& op, int thread);
  void first_blocks(const AttnItem& item, const KvLayer& layer, int window,
                    const uint8_t** heads) const;
  void attention(Op& op, int thread);
  void linear(Op& op, int thread);
  void gate_up(Op& op, int thread);
  void add_norm(const Op& op, int thread);
  void head(Op& op, int thread);
  bool is_greedy(const StepView& view, const SampleRow& row) const;
  bool is_narrow(const StepView& view, const SampleRow& row) const;
  int64_t num_allowed_panels(const StepView& view, const SampleRow& row) const;
  void mask_panel(int row, int64_t panel, float* out) const;
  void plan_head(const StepView& view);
  void choose_panels(const StepView& view, HeadGroup& group);
  void head_unit(const Op& op, const HeadGroup& group, int64_t unit, const Activations& input,
                 int thread);
  void choose(int row, const float* logits, bool is_partial, int thread);
  void choose_peak(int row, int index);
  const Activations& prepare(Op& op, int thread, Rows rows);
  const Activations& pack_input(const Op& op, int thread, Rows rows);
  int scale_blocks(const Op& op, int count) const;
  void plan_adapters(const StepView& view);
  std::vector<Run> runs_of(const StepView& view, Rows rows) const;
  const std::vector<Run>& runs(const Op& op) const;
  void shrink(Op& op, const Activations& input, int thread);
  void look_ahead(const Op& op, int thread);
  void fetch_with(const Op& op, int thread, int part, int64_t panel);
  void add_delta(const Op& op, int part, int64_t panel, float* out) const;
  void store(Rows rows, const float* from, int width, const float* bias, const float* residual,
             int64_t stride, float* out) const;
  Activations activations(uint8_t* base, int count, int64_t cols) const;
  float* value(int64_t offset) const { return reinterpret_cast<float*>(arena_.data() + offset); }

  const Kernels& kernels_;
  Arithmetic arithmetic_;
  std::shared_ptr<Threads> shared_threads_;
  Threads& threads_;
  Arena weights_;
  size_t packed_bytes_ = 0;
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::vector<std::vector<float>> vectors_;
  std::vector<Op> ops_;
  Sizes sizes_{};
  int64_t max_cols_ = 0;

  Arena arena_, kv_, scratch_arena_;
  Prefault prefault_;  // of the cache
  std::vector<KvLayer> layers_;
  std::vector<Scratch> scratch_;
  std::vector<uint8_t*> own_input_;  // a thread's own packed input, for batches of one or two
  std::vector<Activations> own_;
  uint8_t* shared_input_ = nullptr;
  Activations shared_;
  Activations result_;        // of a gate_up that was packed where the floats would lie
  std::vector<int> ropes_;    // the different inv_freq of the layers, as vectors
  float* cos_sin_ = nullptr;  // per rope: T x head_dim
  int64_t rope_stride_ = 0;
  float* logits_ = nullptr;  // kHeadRows x padded vocabulary
  int64_t logits_stride_ = 0;
  Shrunk* shrunk_ = nullptr;  // T x kMaxParts

  struct alignas(128) Profile {
    int64_t last_ns = 0;
    std::vector<OpTime> ops;
  };
  bool profiling_ = false;
  std::vector<Profile> profiles_;  // a thread each

  const StepView* view_ = nullptr;
  std::vector<AttnItem> items_, tail_items_;
  // Past the last attention only rows with logits count: `tail_` when those are not all.
  size_t last_attention_ = 0;
  bool tail_ = false;
  std::vector<int32_t> tail_rows_;
  std::unique_ptr<std::atomic<int>[]> left_;  // per layer and split row set: chunks to come
  size_t num_left_ = 0;
  int64_t num_partials_ = 0, num_sets_ = 0;
  std::vector<float> partials_;
  std::vector<int32_t> head_rows_, head_tokens_;  // logit rows in the head's order, their tokens
  std::vector<int32_t> greedy_, whole_, narrow_;  // rows of a step by what is needed of them
  std::vector<HeadGroup> head_groups_;
  std::vector<std::vector<RowPeak>> peaks_;  // [thread][row of a group]
  size_t num_groups_ = 0;
  std::vector<uint32_t> allowed_;
  std::vector<std::unique_ptr<Split>> head_splits_;  // a group each

  std::vector<std::unique_ptr<Adapter>> adapters_;
  mutable SpareArenas spare_;  // for adapters
  std::vector<Run> runs_, tail_runs_;

  // What a thread will read of A in the next op that has adapters: units of its split from `unit`
  // on, of which `byte` is next; `bytes_each` are asked for with each panel of this op.
  struct alignas(128) Ahead {
    const Op* op = nullptr;
    int64_t unit = 0, end = 0;
    size_t byte = 0, bytes_each = 0;
  };
  std::vector<Ahead> ahead_;      // a thread each
  std::vector<Fetches> fetches_;  // a thread each
};

}  // namespace ff
