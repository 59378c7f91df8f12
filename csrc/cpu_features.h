// Which kernels this CPU can run.
#pragma once
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace ff {

// Best first; the portable kernels are always last.
inline std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> all;
#ifdef FF_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni")) {
    if (__builtin_cpu_supports("avx512bf16")) all.push_back(&avx512_bf16_kernels());
    all.push_back(&avx512_kernels());
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c"))
    all.push_back(&avx2_kernels());
#endif
  all.push_back(&portable_kernels());
  return all;
}

// The kernels of that name, or the best ones for "". Null if this CPU has none such.
inline const Kernels* find_kernels(const std::string& name) {
  for (const Kernels* kernels : available_kernels())
    if (name.empty() || name == kernels->name) return kernels;
  return nullptr;
}

}  // namespace ff
