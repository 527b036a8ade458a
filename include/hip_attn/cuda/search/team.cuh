/// Thread blocks that search for one unit together: each scans its share of the chunks, all get all
/// scores, and each selects for itself.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/ptx/shared_memory.cuh"

namespace hip_attn::cuda {

/// A single block.
struct LoneBlock {
  __device__ static int size() { return 1; }
  __device__ static int rank() { return 0; }
  __device__ static void sync() { __syncthreads(); }
  /// Writes a score where every block of the team finds it after sync().
  __device__ static void put(float* score, float value) { *score = value; }
  /// What block `rank` of the team has at this place of its memory.
  __device__ static float get(const float* place, int /*rank*/) { return *place; }
};

/// The cluster that the kernel was launched with (sm_90), or a single block. Scores are in shared
/// memory, at the same place in every block. By the functions that cooperative groups calls, whose
/// header would take seconds of every file's compilation.
struct SearchCluster {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  __device__ static int size() { return static_cast<int>(__clusterSizeInBlocks()); }
  __device__ static int rank() { return static_cast<int>(__clusterRelativeBlockRank()); }
  __device__ static void sync() {
    if (size() == 1) {
      __syncthreads();
    } else {
      __cluster_barrier_arrive();
      __cluster_barrier_wait();
    }
  }
  __device__ static void put(float* score, float value) {
    const int blocks = size();
#pragma unroll 1
    for (int to = 0; to < blocks; ++to) {
      asm volatile(
          "{\n"
          " .reg .b32 address;\n"
          " mapa.shared::cluster.u32 address, %0, %1;\n"
          " st.shared::cluster.f32 [address], %2;\n"
          "}" ::"r"(shared_address(score)),
          "r"(to), "f"(value)
          : "memory");
    }
  }
  __device__ static float get(const float* place, int rank) {
    float value;
    asm volatile(
        "{\n"
        " .reg .b32 address;\n"
        " mapa.shared::cluster.u32 address, %1, %2;\n"
        " ld.shared::cluster.f32 %0, [address];\n"
        "}"
        : "=f"(value)
        : "r"(shared_address(place)), "r"(rank)
        : "memory");
    return value;
  }
#endif
};

}  // namespace hip_attn::cuda
