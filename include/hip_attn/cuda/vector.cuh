/// The 16-byte vector, the widest access that one thread makes, and element conversions.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <concepts>

#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

inline constexpr int kVectorBytes = 16;

template <Element T>
inline constexpr int kVectorElements = kVectorBytes / static_cast<int>(sizeof(T));

template <Element T>
struct alignas(kVectorBytes) Vector {
  T elements[kVectorElements<T>];
};

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

}  // namespace hip_attn::cuda
