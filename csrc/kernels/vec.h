// Sixteen lanes as the compiler's own vector types, and what every instruction set does alike.
// An ISA file defines fma, Dot, half_to_f32, keep_first and the like over these types, or over its
// own of the same names; the kernels are written once and compiled once per ISA, each in its own
// namespace.
#pragma once
#include <cstdint>
#include <cstring>

typedef float f32 __attribute__((vector_size(64)));
typedef int32_t i32 __attribute__((vector_size(64)));
typedef uint32_t u32 __attribute__((vector_size(64)));
typedef uint8_t u8x64 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef uint16_t u16x32 __attribute__((vector_size(64)));

#define FF_INLINE static inline __attribute__((always_inline))
#define FF_INLINE_MEMBER inline __attribute__((always_inline))
