/// Waiting on and arriving at barriers in shared memory, and fixed groups of threads.
#pragma once

#include <cstdint>
#include <cuda/ptx>

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

__device__ inline bool has_passed(std::uint64_t& barrier, std::uint32_t parity) {
#if HIP_ATTN_SM90A
  return ::cuda::ptx::mbarrier_try_wait_parity(&barrier, parity);
#else
  return true;
#endif
}

/// The same at once, where has_passed() may wait a while.
__device__ inline bool has_passed_now(std::uint64_t& barrier, std::uint32_t parity) {
#if HIP_ATTN_SM90A
  return ::cuda::ptx::mbarrier_test_wait_parity(&barrier, parity);
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
  ::cuda::ptx::mbarrier_arrive(&barrier);
#endif
}

/// What this thread wrote to shared memory is visible to the tensor cores after the next barrier.
__device__ inline void fence_for_tensor_cores() {
#if HIP_ATTN_SM90A
  ::cuda::ptx::fence_proxy_async(::cuda::ptx::space_shared);
#endif
}

/// A barrier among the threads of one warpgroup.
__device__ inline void sync_warpgroup(int warpgroup) {
  asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");
}

}  // namespace hip_attn::cuda::sm90
