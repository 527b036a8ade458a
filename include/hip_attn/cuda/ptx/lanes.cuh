/// Exchanges among the lanes of a warp.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// Of kCount lanes that stand kStep apart, both powers of two: value i of lane j becomes value j of
/// lane i. Called by the whole warp.
template <int kStep, typename T, int kCount>
__device__ void transpose_lanes(T (&values)[kCount]) {
  const int lane = static_cast<int>(threadIdx.x % 32) / kStep;
#pragma unroll
  for (int bit = 1; bit < kCount; bit *= 2) {
    const bool upper = (lane & bit) != 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i & bit) continue;
      T& lower_value = values[i];
      T& upper_value = values[i | bit];
      const T other = __shfl_xor_sync(0xffffffffu, upper ? lower_value : upper_value, kStep * bit);
      (upper ? lower_value : upper_value) = other;
    }
  }
}

}  // namespace hip_attn::cuda
