// All kernels for any CPU.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels.h"
#include "vec.h"

namespace ff::portable {

constexpr const char* kName = "portable";
constexpr int kTile = 4;      // accumulators that fit the registers
constexpr int kAttnTile = 8;  // query rows at a time
constexpr int kAttnWide = 2;  // times as many vectors of keys or of values
constexpr int kPrefetchBytes = 1024;
constexpr int kDirectTiles = 1;  // up to so many tiles unpack in registers, more through scratch

#include "vec_basic.inl"
#include "vec_portable.inl"
#include "vec_common.inl"
#include "schemes.inl"
#include "linear.inl"
#include "turbo.inl"
#include "rows.inl"
#include "lowrank.inl"
#include "attention.inl"
#include "sample.inl"
#include "table.inl"

}  // namespace ff::portable

namespace ff {
const Kernels& portable_kernels() { return portable::kTable; }
}  // namespace ff
