// What an ISA provides: one table of functions, the same for every instruction set.
//
// T tokens in a batch of activations, K columns, R rows. No kernel allocates or throws.
#pragma once
#include "../lowrank.h"
#include "../schemes.h"

namespace ff {

// The input of a linear, packed for the kernels. Tokens are dealt into tiles of nearly equal width;
// within a tile, [block][column group][token] words of four int8, and per (block, token) the scale,
// scale * sum, and minus the sums of the first and the last 16 columns. `values` holds the same
// input as float32, [column][token] in a tile, for float weights and for f32 activations.
struct Activations {
  int num_tokens = 0, num_tiles = 0, num_blocks = 0;
  int32_t* words = nullptr;  // T * K / 4
  float* scale = nullptr;    // T * K / 32
  float* scaled_sum = nullptr;
  int32_t* minus_sum = nullptr;  // 2 * T * K / 32: all first halves of a tile, then all second
  float* values = nullptr;       // T * K

  int start(int tile) const {
    const int narrow = num_tokens / num_tiles, wider = num_tokens % num_tiles;
    return tile * narrow + (tile < wider ? tile : wider);
  }
  int width(int tile) const { return num_tokens / num_tiles + (tile < num_tokens % num_tiles); }
};

// How linears compute: int8 activations on the weights as they are; the same, but large batches on
// weights rounded to int8; or float32 on both sides.
enum class Arithmetic { Exact, Turbo, Float };

constexpr int kTurboBlocks = 4;     // blocks that share a scale
constexpr int kTurboZeroShift = 7;  // weights are unsigned around 1 << 7

// Small batches are exact: unpacking would cost more than turbo saves.
inline bool is_turbo(Arithmetic arithmetic, int num_tokens) {
  return arithmetic == Arithmetic::Turbo && num_tokens >= 48;
}

// Memory that is read after a panel: a small batch's kernel asks for some of it with each block,
// so that the bytes come while it computes. In pieces of a few cache lines; more than fit are left
// out. A panel's kernel leaves it empty.
struct Fetches {
  static constexpr int kMost = 256, kPieceBytes = 320;

  void add(const uint8_t* from, size_t bytes) {
    for (size_t at = 0; at < bytes && count < kMost; at += kPieceBytes) pieces[count++] = from + at;
  }

  int count = 0;
  const uint8_t* pieces[kMost];
};

// A thread's own memory.
struct Scratch {
  float* row;           // K floats: one normalised input row
  uint8_t* weights;     // K * 16 unpacked bytes (or a block of floats)
  float* scales;        // K / 32 * 4 * 16 floats: scales and offsets of a panel
  float* out;           // T * widest unit: results of one unit
  float* scores;        // attention: kAttnRows * kKvTile
  float* attn;          // attention: kAttnRows * 3 * head_dim
  float* sample;        // vocabulary
  int32_t* counts;      // vocabulary, zero between calls
  int32_t* candidates;  // vocabulary
  Fetches* fetches;     // of the panel that is next
};

constexpr int kAttnRows = 16;  // query rows (tokens x heads of a KV group) of a work item

constexpr int kBlocksAhead = kKvTile / kKvBlock;  // KV blocks asked for before they are read

// One piece of attention: the query rows of `num_tokens` tokens, `group` heads each, all of one KV
// head, against the keys of some chunks.
struct AttnItem {
  int sequence, kv_head, token, num_tokens;
  int first_chunk, num_chunks;  // this item's chunks
  int partial = -1;             // index of the first of the row set's partial results, -1: all here
  int total_chunks = 0;         // chunks of the whole row set when split
  int set = 0;                  // which split row set this is
};

enum class KvType { F32, Bf16, Int8 };

struct AttnShape {
  int num_q_heads, num_kv_heads, head_dim, group;
  int window;            // 0: none
  float scale, softcap;  // softcap 0: none
  KvType kv_type;
  int64_t q_stride;  // floats between tokens in q and in out
};

// One layer of the cache, in blocks; attention.inl knows what a head of a block looks like. All
// layers of a block lie together, so that memory is touched only as blocks come into use.
struct KvLayer {
  uint8_t* data;
  int64_t head_bytes, block_bytes;

  uint8_t* head(int64_t block, int kv_head) const {
    return data + block * block_bytes + kv_head * head_bytes;
  }
};

struct SampleRow {
  float temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
  int32_t top_k, num_logprobs, target, mask_row, history_start, history_prompt_len, history_len;
  int32_t bias_start, bias_len, position;
  uint64_t seed;
} __attribute__((packed));

struct SampleInputs {
  const int32_t* history;
  const int32_t* bias_ids;
  const float* bias_values;
  const uint32_t* masks;
  int mask_words;
  bool partial = false;  // logits of tokens that no mask allows are -inf: they were not computed
};

struct Sampled {
  int32_t token, rank;
  float logprob;
  bool bad;
};

// The largest logit of a row so far, in whatever order its panels come.
struct alignas(64) RowPeak {
  float not_finite[16];  // NaN once a logit was NaN or infinite, else 0
  float value;
  int32_t id;  // the lowest of equals
};

struct Kernels {
  const char* name;
  int tile;  // widest tile of tokens

  // Writes blocks [first, last) of token `index` of the packed input from a float32 row: optional
  // norm, then quantisation into words (with a scale for every `scale_blocks` blocks; 0: none) and
  // or plain copies (keep_values). `scratch_row` has room for the row.
  void (*pack_row)(const float* row, int64_t cols, const float* norm, float eps, int scale_blocks,
                   bool keep_values, const Activations& to, int index, int first, int last,
                   float* scratch_row);

  // Quantises blocks [first, last) of every token, `scale_blocks` to a scale, from panels of 16
  // columns, [panel][token][16] with `stride` floats between panels; the first is block `first`'s.
  void (*pack_panels)(const float* from, int64_t stride, int scale_blocks, const Activations& to,
                      int first, int last);

  // out[token * 16 + row] = panel times every token of the input.
  void (*panel)(const Matrix& weights, int64_t panel, const Activations& input,
                Arithmetic arithmetic, const Scratch& scratch, float* out);

  // A panel's results, [token][16], to `rows` adjacent outputs of each token: out = from (+ bias)
  // (+ residual). out, bias and residual point at the first of them; `stride` floats between tokens
  // of out and residual; bias may be null, residual too.
  void (*store_rows)(const float* from, int num_tokens, int rows, const float* bias,
                     const float* residual, int64_t stride, float* out);

  // One row of a matrix as floats (embedding lookup).
  void (*unpack_row)(const Matrix& weights, int64_t row, float* out);

  // out = silu(gate) * up, or gelu(gate) * up, over n floats, n a multiple of 16.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*gelu_mul)(const float* gate, const float* up, int64_t n, float* out);

  // x = cap * tanh(x / cap) in place, n a multiple of 16. NaN stays NaN.
  void (*soft_cap)(float* x, int64_t n, float cap);

  // out = residual + row / rms * weight; out may be the residual.
  void (*add_norm)(const float* row, int64_t n, const float* weight, float eps,
                   const float* residual, float* out);

  // Root-mean-square norm of each head, in place, then rotary embedding in place.
  void (*norm_head)(float* head, int head_dim, const float* weight, float eps);
  void (*rope_head)(float* head, int head_dim, const float* cos_sin);

  // Bytes of one head of one block, keys and values.
  int64_t (*kv_head_bytes)(KvType type, int head_dim);

  // Stores one token's key (or value) of one head.
  void (*store_kv)(const KvLayer& layer, const AttnShape& shape, int64_t slot, int kv_head,
                   bool is_value, const float* row);

  // Asks for what store_kv will write to.
  void (*prefetch_kv)(const KvLayer& layer, const AttnShape& shape, int64_t slot, int kv_head,
                      bool is_value);

  // Attends for an item. `positions[token]`; result to out, or to partials when the item is split.
  // `following`: the first kBlocksAhead heads of blocks that will be read after it.
  void (*attend)(const AttnItem& item, const AttnShape& shape, const KvLayer& layer, const float* q,
                 const int32_t* positions, const int32_t* block_table,
                 const uint8_t* const* following, float* out, float* partials,
                 const Scratch& scratch);
  void (*merge)(const AttnItem& item, const AttnShape& shape, float* partials, float* out);

  // Peaks of rows that nothing else is wanted of, from one panel, [row][16]: the logits of `count`
  // tokens from `first_id` on.
  void (*peak_rows)(const float* from, int num_rows, int32_t first_id, int count, RowPeak* peaks);

  Sampled (*sample)(const SampleRow& row, const SampleInputs& inputs, const float* logits,
                    int vocab_size, const Scratch& scratch, int32_t* top_ids, float* top_logprobs);

  // A x of `count` tokens of a tile, from its token `first` on; `stride` between tokens' results.
  void (*shrink)(const LowRank& part, const Activations& input, int tile, int first, int count,
                 Shrunk* to, int64_t stride);

  // out[token * 16 + row] += panel of B times what shrink left.
  void (*expand)(const LowRank& part, int64_t panel, const Shrunk* from, int64_t stride, int count,
                 float* out);
};

const Kernels& portable_kernels();
#ifdef FF_X86
const Kernels& avx512_kernels();
const Kernels& avx512_bf16_kernels();
const Kernels& avx2_kernels();
#endif

}  // namespace ff
