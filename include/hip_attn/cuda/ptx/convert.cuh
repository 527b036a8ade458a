/// Conversions between fp32 and the element types, and 2^x, in the GPU's own instructions.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// What hip_attn::to_float and from_float do, in the GPU's own instructions.
__device__ inline float widen(float x) { return x; }
__device__ inline float widen(float16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float widen(bfloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }

template <Element T>
__device__ T narrow(float x) {
  if constexpr (std::same_as<T, float>) {
    return x;
  } else if constexpr (std::same_as<T, float16>) {
    return {__half_as_ushort(__float2half_rn(x))};
  } else {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  }
}

/// {low, high} rounded to T in one register.
template <typename T>
__device__ inline std::uint32_t narrow_pair(float low, float high) {
  std::uint32_t pair;
  if constexpr (std::is_same_v<T, float16>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

/// The positive ones of two elements, and zeros in place of the others; NaN stays.
template <typename T>
__device__ inline std::uint32_t positive_pair(std::uint32_t pair) {
  if constexpr (std::is_same_v<T, float16>) {
    asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(0));
  } else {
    asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(0));
  }
  return pair;
}

/// The negative ones likewise.
template <typename T>
__device__ inline std::uint32_t negative_pair(std::uint32_t pair) {
  if constexpr (std::is_same_v<T, float16>) {
    asm("min.NaN.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(0));
  } else {
    asm("min.NaN.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(0));
  }
  return pair;
}

/// All bits of those of two elements that are infinite or NaN.
template <typename T>
__device__ inline std::uint32_t not_finite_bits(std::uint32_t pair) {
  constexpr std::uint32_t kExponents = std::is_same_v<T, float16> ? 0x7c007c00u : 0x7f807f80u;
  return __vcmpeq2(pair & kExponents, kExponents);
}

/// 2^x to two units in the last place, without exp2f's care for results below 2^-126: these are 0.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// As integers the bits of floats are ordered as they are, but for negative ones; its own inverse.
__device__ inline int bits_in_order(int bits) { return bits ^ (bits >> 31 & 0x7fffffff); }

/// The largest value of a whole warp, none of which is NaN, in every lane.
__device__ inline float warp_max(float x) {
  return __int_as_float(
      bits_in_order(__reduce_max_sync(0xffffffffu, bits_in_order(__float_as_int(x)))));
}

}  // namespace hip_attn::cuda
