// An adapter's part of one linear, y += scale * B (A x), as the kernels read it.
//
// A lies in panels of 16 ranks, B in panels of 16 output rows; missing rows are zero. Where the
// linear's input is int8, so are both:
//   A: for each block of 32 columns 16 scales (float32), then 512 bytes as in schemes.h
//   B: 16 scales, then for each four ranks 64 bytes, byte [row * 4 + i] of rank 4 * group + i
// weights unsigned around 128. Otherwise both are float32, [column][row] and [rank][row].
#pragma once
#include <cstddef>
#include <cstdint>

#include "schemes.h"

namespace ff {

constexpr int kMaxRank = 256;
constexpr int kRankGroup = 4;      // ranks in one word
constexpr int kLowRankZero = 128;  // of int8 weights

struct LowRank {
  int rank = 0;  // 0: the adapter has none here
  bool is_int8 = false;
  int num_blocks = 0;  // of A's columns
  const uint8_t *a = nullptr, *b = nullptr;

  int rank_panels() const { return (rank + kPanelRows - 1) / kPanelRows; }
  int rank_groups() const { return (rank + kRankGroup - 1) / kRankGroup; }
  size_t a_panel_bytes() const {
    return static_cast<size_t>(num_blocks) * (is_int8 ? 64 + 512 : kBlock * 64);
  }
  size_t a_bytes() const { return rank_panels() * a_panel_bytes(); }
  size_t b_panel_bytes() const {
    return is_int8 ? 64 + 64 * static_cast<size_t>(rank_groups()) : 64 * static_cast<size_t>(rank);
  }
};

// A x of one token: as floats, or int8 with one scale.
struct alignas(64) Shrunk {
  float scale;
  int32_t start;  // what takes the zero point of B off a dot product
  union alignas(64) {
    int32_t words[kMaxRank / kRankGroup];
    float values[kMaxRank];
  };
};

}  // namespace ff
