/// Waiting on and arriving at barriers in shared memory, and fixed groups of threads.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/ptx/wgmma.cuh"

namespace hip_attn::cuda::sm90 {

/// A position in a ring of kSize slots that is passed again and again.
template <int kSize>
struct RingPosition {
  int slot = 0;
  std::uint32_t lap = 0;  ///< parity

  __device__ void advance() {
    if (++slot == kSize) {
      slot = 0;
      lap ^= 1u;
    }
  }
};

/// By one thread, before the others know of it.
__device__ inline void init(std::uint64_t& barrier, int arrivals) {
#if HIP_ATTN_SM90A
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals)
               : "memory");
#endif
}

__device__ inline bool has_passed(std::uint64_t& barrier, std::uint32_t parity) {
#if HIP_ATTN_SM90A
  std::uint32_t passed;
  asm volatile(
      "{\n"
      " .reg .pred passed;\n"
      " mbarrier.try_wait.parity.shared::cta.b64 passed, [%1], %2;\n"
      " selp.b32 %0, 1, 0, passed;\n"
      "}"
      : "=r"(passed)
      : "r"(shared_address(&barrier)), "r"(parity)
      : "memory");
  return passed != 0;
#else
  return true;
#endif
}

/// The same at once, where has_passed() may wait a while.
__device__ inline bool has_passed_now(std::uint64_t& barrier, std::uint32_t parity) {
#if HIP_ATTN_SM90A
  std::uint32_t passed;
  asm volatile(
      "{\n"
      " .reg .pred passed;\n"
      " mbarrier.test_wait.parity.shared::cta.b64 passed, [%1], %2;\n"
      " selp.b32 %0, 1, 0, passed;\n"
      "}"
      : "=r"(passed)
      : "r"(shared_address(&barrier)), "r"(parity)
      : "memory");
  return passed != 0;
#else
  return true;
#endif
}

__device__ inline void wait(std::uint64_t& barrier, std::uint32_t parity) {
  while (!has_passed(barrier, parity)) {
  }
}

__device__ inline void arrive(std::uint64_t& barrier) {
#if HIP_ATTN_SM90A
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
#endif
}

/// What this thread wrote to shared memory is visible to the tensor cores after the next barrier.
__device__ inline void fence_for_tensor_cores() {
#if HIP_ATTN_SM90A
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// A barrier among the threads of one warpgroup.
__device__ inline void sync_warpgroup(int warpgroup) {
  asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");
}

}  // namespace hip_attn::cuda::sm90
