// All kernels for AVX-512 with VNNI.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "../kernels.h"
#include "../vec.h"

namespace ff::avx512 {

constexpr const char* kName = "avx512-vnni";
constexpr int kTile = 12;     // accumulators that fit the registers
constexpr int kAttnTile = 8;  // query rows at a time
constexpr int kAttnWide = 2;  // times as many vectors of keys or of values
constexpr int kPrefetchBytes = 4096;
constexpr int kDirectTiles = 3;  // up to so many tiles unpack in registers, more through scratch

#include "../vec_basic.inl"
#include "vec_avx512.inl"
#include "../vec_common.inl"
#include "../schemes.inl"
#include "../linear.inl"
#include "../turbo.inl"
#include "../rows.inl"
#include "../lowrank.inl"
#include "../attention.inl"
#include "../sample.inl"
#include "../table.inl"

}  // namespace ff::avx512

namespace ff {
const Kernels& avx512_kernels() { return avx512::kTable; }
}  // namespace ff
