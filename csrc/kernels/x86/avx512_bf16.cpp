// The AVX-512 kernels with attention by bfloat16 dot products (Zen 4, Cooper Lake, Sapphire
// Rapids).
#include <immintrin.h>

#include <cmath>
#include <type_traits>

#include "../kernels.h"
#include "../vec.h"

namespace ff::avx512_bf16 {

constexpr int kTile = 12;
constexpr int kAttnTile = 8;
constexpr int kAttnWide = 2;

#include "../vec_basic.inl"
#include "vec_avx512.inl"
#include "../vec_common.inl"
#include "../attention.inl"

}  // namespace ff::avx512_bf16

namespace ff {
const Kernels& avx512_bf16_kernels() {
  static const Kernels table = [] {
    Kernels kernels = avx512_kernels();
    kernels.name = "avx512-bf16";
    kernels.attend = avx512_bf16::attend;
    return kernels;
  }();
  return table;
}
}  // namespace ff
