/// Values that the compiler is to keep in registers.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// x, found here: nvcc neither moves it to where it is used nor finds it again there. ptxas still
/// may, where registers are few.
__device__ inline std::int32_t in_register(std::int32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}

__device__ inline std::uint32_t in_register(std::uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}
template <typename P>
__device__ inline P* in_register(P* p) {
  asm volatile("" : "+l"(p));
  return p;
}

/// x, which all lanes of the whole warp have alike: the compiler then knows so, and keeps it and
/// what follows from it in uniform registers.
__device__ inline int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }

}  // namespace hip_attn::cuda
