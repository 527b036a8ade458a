/// append_kv with landmarks, if any, and a store, in one launch.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/landmarks/append.cuh"
#include "hip_attn/cuda/offload/admit.cuh"

namespace hip_attn::cuda {

template <typename Stored>
struct AppendToStoreParams {
  AppendWithLandmarksParams<Stored> with_landmarks;  ///< no landmark_blocks: without
  AdmitParams admit;
  std::int32_t admit_blocks;  ///< the first blocks of the grid, before those of landmarks
};

/// The new rows are written home by some blocks and into hot blocks by others, which copy blocks
/// from home beside them: what those read there and do not write again from the new rows was there
/// before.
template <Element T, int kHeadDim, typename Access>
__global__ void __launch_bounds__(kLandmarkThreads)
    append_to_store_kernel(const __grid_constant__ AppendToStoreParams<T> params) {
  constexpr int kRowVectors = kHeadDim / kVectorElements<T>;
  using Admission = UnitAdmission<kLandmarkThreads, kRowVectors>;
  __shared__ union {
    typename Admission::Shared admission;
    typename LandmarkBlock<T, kHeadDim, Access>::Shared landmarks;
  } shared;
  const AppendWithLandmarksParams<T>& append = params.with_landmarks;
  int block = static_cast<int>(blockIdx.x);
  if (block < params.admit_blocks && threadIdx.x < 32) {
    prefetch_for_step(params.admit, block / params.admit.store.num_kv_heads,
                      block % params.admit.store.num_kv_heads, static_cast<int>(threadIdx.x));
  }
  wait_for_upstream_kernel();
  launch_dependents();
  if (block < params.admit_blocks) {
    const std::int64_t units = std::int64_t{params.admit.batch} * params.admit.store.num_kv_heads;
    for (std::int64_t unit = block; unit < units; unit += params.admit_blocks) {
      __syncthreads();
      Admission(params.admit, shared.admission,
                static_cast<int>(unit / params.admit.store.num_kv_heads),
                static_cast<int>(unit % params.admit.store.num_kv_heads))
          .run();
    }
    return;
  }
  block -= params.admit_blocks;
  if (block < append.landmark_blocks) {
    complete_landmarks<T, kHeadDim, Access>(append, shared.landmarks, block);
  } else {
    append_rows_of_block<kRowVectors, Access::kRowsCopied>(
        append.append, block - append.landmark_blocks,
        static_cast<int>(gridDim.x) - params.admit_blocks - append.landmark_blocks);
  }
}

}  // namespace hip_attn::cuda
