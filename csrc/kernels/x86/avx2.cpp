// All kernels for AVX2 with FMA and F16C.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "../kernels.h"
#include "../vec.h"

namespace ff::avx2 {

constexpr const char* kName = "avx2";
constexpr int kTile = 4;      // accumulators that fit the registers
constexpr int kAttnTile = 4;  // query rows at a time
constexpr int kAttnWide = 1;  // times as many vectors of keys or of values
constexpr int kPrefetchBytes = 2048;
constexpr int kDirectTiles = 1;  // up to so many tiles unpack in registers, more through scratch

#include "vec_avx2.inl"
#include "../vec_common.inl"
#include "../schemes.inl"
#include "../linear.inl"
#include "../turbo.inl"
#include "../rows.inl"
#include "../lowrank.inl"
#include "../attention.inl"
#include "../sample.inl"
#include "../table.inl"

}  // namespace ff::avx2

namespace ff {
const Kernels& avx2_kernels() { return avx2::kTable; }
}  // namespace ff
