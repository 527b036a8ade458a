/// Sink logits and the rows that attended without them, on the GPU.
#pragma once

#include <cmath>
#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/rows/vector.cuh"
#include "hip_attn/sink_logits.hpp"

namespace hip_attn::cuda {

/// AddSinkLogitsArgs with plain pointers. The last dimension is contiguous; strides count elements.
template <Element T>
struct SinkLogitsParams {
  const float* sink_logits;  ///< [Hq]
  T* out;                    ///< [total_q, Hq, D]
  std::int64_t out_row_stride;
  std::int64_t out_head_stride;
  float* lse;  ///< [total_q, Hq]
  std::int64_t lse_row_stride;
  std::int64_t total_q;
  std::int64_t num_q_heads;
};

inline constexpr int kSinkLogitsThreads = 256;

/// Lanes that share one row (query row, head): those of one warp, which reads the row's lse before
/// one of them replaces it.
template <Element T, int kHeadDim>
inline constexpr int kSinkLogitsLanes =
    kHeadDim / kVectorElements<T> < 32 ? kHeadDim / kVectorElements<T> : 32;

template <Element T, int kHeadDim>
inline constexpr int kSinkLogitsRowsPerWarp = 32 / kSinkLogitsLanes<T, kHeadDim>;

template <Element T, int kHeadDim>
inline constexpr int kSinkLogitsRowsPerBlock =
    kSinkLogitsThreads / 32 * kSinkLogitsRowsPerWarp<T, kHeadDim>;

template <Element T, int kHeadDim>
__global__ void __launch_bounds__(kSinkLogitsThreads)
    sink_logits_kernel(const SinkLogitsParams<T> params) {
  constexpr int kLanes = kSinkLogitsLanes<T, kHeadDim>;
  constexpr int kRowsPerWarp = kSinkLogitsRowsPerWarp<T, kHeadDim>;
  constexpr int kRowsPerBlock = kSinkLogitsRowsPerBlock<T, kHeadDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = lane / kLanes;
  const int row_of_block = static_cast<int>(threadIdx.x) / 32 * kRowsPerWarp + warp_row;
  const std::int64_t num_rows = params.total_q * params.num_q_heads;
  const std::int64_t row_step = static_cast<std::int64_t>(gridDim.x) * kRowsPerBlock;
  for (std::int64_t block_row = static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock;
       block_row < num_rows; block_row += row_step) {
    const std::int64_t i = block_row + row_of_block;
    const bool has_row = warp_row < kRowsPerWarp && i < num_rows;
    const std::int64_t row = has_row ? i / params.num_q_heads : 0;
    const std::int64_t head = has_row ? i - row * params.num_q_heads : 0;
    float* const lse_of_row = params.lse + row * params.lse_row_stride + head;
    const float sink = params.sink_logits[head];
    const float lse = has_row ? *lse_of_row : 0.f;
    __syncwarp();
    if (!has_row) continue;

    const bool is_empty = lse == -INFINITY;
    const float weight = 1.f / (1.f + expf(sink - lse));
    T* const out = params.out + row * params.out_row_stride + head * params.out_head_stride;
    for (int first = lane % kLanes * kVectorElements<T>; first < kHeadDim;
         first += kLanes * kVectorElements<T>) {
      auto& vector = *reinterpret_cast<Vector<T>*>(out + first);
      Vector<T> weighted = vector;
      for (int e = 0; e < kVectorElements<T>; ++e) {
        weighted.elements[e] = narrow<T>(is_empty ? 0.f : weight * widen(weighted.elements[e]));
      }
      vector = weighted;
    }
    if (lane % kLanes == 0) {
      *lse_of_row = is_empty ? sink : fmaxf(lse, sink) + log1pf(expf(-fabsf(lse - sink)));
    }
  }
}

}  // namespace hip_attn::cuda
