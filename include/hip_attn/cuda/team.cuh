/// Thread blocks that work on one unit together and meet at barriers.
#pragma once

#include <cooperative_groups.h>

#include <cstdint>

namespace hip_attn::cuda {

/// A thread-block cluster (sm_90): the hardware schedules it whole and synchronises it in well
/// under a microsecond. Global memory written before sync() is visible after it.
struct ClusterTeam {
  __device__ ClusterTeam(std::uint32_t*, int) {}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  __device__ static int size() {
    return static_cast<int>(cooperative_groups::this_cluster().num_blocks());
  }
  __device__ static int rank() {
    return static_cast<int>(cooperative_groups::this_cluster().block_rank());
  }
  __device__ static void sync() { cooperative_groups::this_cluster().sync(); }
#else  // compiled for every architecture, launched on none that lacks clusters
  __device__ static int size() { return 1; }
  __device__ static int rank() { return 0; }
  __device__ static void sync() { __trap(); }
#endif
  __device__ static int first_unit() { return static_cast<int>(blockIdx.x) / size(); }
  __device__ static int num_teams() { return static_cast<int>(gridDim.x) / size(); }
};

/// Blocks of a cooperative launch (any architecture), which are all resident, so that waiting for
/// one another cannot deadlock. `arrivals` counts up from 0, one counter per team.
class GridTeam {
 public:
  __device__ GridTeam(std::uint32_t* arrivals, int size)
      : arrivals_(arrivals + blockIdx.x / size), size_(size) {}
  __device__ int size() const { return size_; }
  __device__ int rank() const { return static_cast<int>(blockIdx.x) % size_; }
  __device__ int first_unit() const { return static_cast<int>(blockIdx.x) / size_; }
  __device__ int num_teams() const { return static_cast<int>(gridDim.x) / size_; }

  __device__ void sync() {
    if (size_ == 1) return __syncthreads();
    expected_ += static_cast<std::uint32_t>(size_);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicAdd(arrivals_, 1u);
      while (*reinterpret_cast<volatile std::uint32_t*>(arrivals_) < expected_) {
      }
      __threadfence();
    }
    __syncthreads();
  }

 private:
  std::uint32_t* arrivals_;
  int size_;
  std::uint32_t expected_ = 0;
};

}  // namespace hip_attn::cuda
