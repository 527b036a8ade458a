/// Stage "combine" on the GPU: partial softmax states into one.
#pragma once

#include <cmath>
#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/rows/vector.cuh"
#include "hip_attn/merge.hpp"

namespace hip_attn::cuda {

/// MergeStatesArgs with plain pointers. The last dimension is contiguous; strides count elements.
template <Element T>
struct MergeParams {
  const T* partial_out;  ///< [parts, total_q, Hq, D]
  std::int64_t partial_out_part_stride;
  std::int64_t partial_out_row_stride;
  std::int64_t partial_out_head_stride;
  const float* partial_lse;  ///< [parts, total_q, Hq]
  std::int64_t partial_lse_part_stride;
  std::int64_t partial_lse_row_stride;
  T* out;  ///< [total_q, Hq, D]
  std::int64_t out_row_stride;
  std::int64_t out_head_stride;
  float* lse;  ///< [total_q, Hq] or null
  std::int64_t lse_row_stride;
  std::int64_t parts;
  std::int64_t total_q;
  std::int64_t num_q_heads;
};

inline constexpr int kMergeThreads = 256;

/// Threads that share one row (query row, head): one vector each.
template <Element T, int kHeadDim>
inline constexpr int kMergeThreadsPerRow = kHeadDim / kVectorElements<T>;

template <Element T, int kHeadDim>
inline constexpr int kMergeRowsPerBlock = kMergeThreads / kMergeThreadsPerRow<T, kHeadDim>;

/// The threads of a row read the same few log-sum-exps, from cache but for the first one.
template <Element T, int kHeadDim>
__global__ void __launch_bounds__(kMergeThreads) merge_kernel(const MergeParams<T> params) {
  constexpr int kThreadsPerRow = kMergeThreadsPerRow<T, kHeadDim>;
  constexpr int kRowsPerBlock = kMergeRowsPerBlock<T, kHeadDim>;
  if (threadIdx.x >= kRowsPerBlock * kThreadsPerRow) return;
  const int first_element = static_cast<int>(threadIdx.x) % kThreadsPerRow * kVectorElements<T>;
  const std::int64_t num_rows = params.total_q * params.num_q_heads;
  const std::int64_t row_step = static_cast<std::int64_t>(gridDim.x) * kRowsPerBlock;
  for (std::int64_t i =
           static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kThreadsPerRow;
       i < num_rows; i += row_step) {
    const std::int64_t row = i / params.num_q_heads;
    const std::int64_t head = i - row * params.num_q_heads;
    const float* const lses = params.partial_lse + row * params.partial_lse_row_stride + head;
    const T* const outs = params.partial_out + row * params.partial_out_row_stride +
                          head * params.partial_out_head_stride + first_element;

    float max = -INFINITY;
    for (std::int64_t part = 0; part < params.parts; ++part) {
      max = fmaxf(max, lses[part * params.partial_lse_part_stride]);
    }
    float sum = 0.f;
    float weighted[kVectorElements<T>] = {};
    for (std::int64_t part = 0; part < params.parts; ++part) {
      const float lse = lses[part * params.partial_lse_part_stride];
      if (lse == -INFINITY) continue;
      const float weight = expf(lse - max);
      const auto vector =
          *reinterpret_cast<const Vector<T>*>(outs + part * params.partial_out_part_stride);
      for (int e = 0; e < kVectorElements<T>; ++e) {
        weighted[e] += weight * widen(vector.elements[e]);
      }
      sum += weight;
    }

    Vector<T> merged;
    for (int e = 0; e < kVectorElements<T>; ++e) {
      merged.elements[e] = narrow<T>(sum == 0.f ? 0.f : weighted[e] / sum);
    }
    *reinterpret_cast<Vector<T>*>(params.out + row * params.out_row_stride +
                                  head * params.out_head_stride + first_element) = merged;
    if (params.lse != nullptr && first_element == 0) {
      params.lse[row * params.lse_row_stride + head] = sum == 0.f ? -INFINITY : max + logf(sum);
    }
  }
}

}  // namespace hip_attn::cuda
