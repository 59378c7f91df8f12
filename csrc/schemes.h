// Weight schemes: how a panel of 16 rows stores its blocks of 32 columns.
//
// A panel keeps, for every block, the 16 rows side by side, so that one 64-byte load holds four
// consecutive columns of each row: byte [row * 4 + i] of column group j is column 4 * j + i.
// Quantised weights are unsigned in the panel (value + zero point); see docs/design/002-kernels.md.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ff {

constexpr int kPanelRows = 16;
constexpr int kBlock = 32;     // columns in a block; activations share one scale per block
constexpr int kKvBlock = 16;   // tokens in a KV block
constexpr int kKvTile = 64;    // keys per softmax update, at absolute multiples
constexpr int kKvChunk = 256;  // keys per partial result, at absolute multiples, merged in order
constexpr int kHeadRows = 64;  // logit rows computed at a time

enum class Scheme : int {
  F32,
  F16,
  BF16,
  I8,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q8_0,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_NL,
  IQ4_XS
};

struct SchemeInfo {
  const char* name;
  int file_block;      // elements in a block of the file format
  int file_bytes;      // bytes of that block
  int group;           // panel blocks that share a header
  int group_bytes;     // bytes of such a group in a panel
  bool is_float;       // stored as floats: activations are not quantised
  int head_bytes = 0;  // what a panel has before its blocks: I8's scales, one float32 a row
};

inline constexpr SchemeInfo kSchemes[] = {
    {"F32", 1, 4, 1, kBlock * kPanelRows * 4, true},
    {"F16", 1, 2, 1, kBlock * kPanelRows * 2, true},
    {"BF16", 1, 2, 1, kBlock * kPanelRows * 2, true},
    {"I8", 1, 1, 1, 512, false, 64},
    {"Q4_0", 32, 18, 1, 256 + 32, false},
    {"Q4_1", 32, 20, 1, 256 + 64, false},
    {"Q5_0", 32, 22, 1, 256 + 64 + 32, false},
    {"Q5_1", 32, 24, 1, 256 + 64 + 64, false},
    {"Q8_0", 32, 34, 1, 512 + 32, false},
    {"Q2_K", 256, 84, 8, 320 + 8 * 128, false},
    {"Q3_K", 256, 110, 8, 320 + 8 * 192, false},
    {"Q4_K", 256, 144, 8, 320 + 8 * 256, false},
    {"Q5_K", 256, 176, 8, 320 + 8 * 320, false},
    {"Q6_K", 256, 210, 8, 320 + 8 * 384, false},
    {"IQ4_NL", 32, 18, 1, 256 + 32, false},
    {"IQ4_XS", 256, 136, 8, 192 + 8 * 256, false},
};

inline const SchemeInfo& info(Scheme scheme) { return kSchemes[static_cast<int>(scheme)]; }

// A weight matrix in panels. `rows` and `cols` are the true sizes; the last panel and the last
// block are padded with zeros.
struct Matrix {
  Scheme scheme = Scheme::F32;
  int64_t rows = 0, cols = 0;
  int64_t num_panels = 0, num_blocks = 0;
  size_t panel_bytes = 0;
  const uint8_t* data = nullptr;

  const uint8_t* panel(int64_t index) const { return data + index * panel_bytes; }
};

}  // namespace ff
