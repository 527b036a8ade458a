/// The landmarks of positions that the cache holds.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/landmarks/make_landmarks.cuh"

namespace hip_attn::cuda {

/// A block takes a span of a request and KV head, neighbouring blocks neighbouring heads: a page by
/// token holds their keys side by side. y strides over requests, x over the spans of each.
template <Element T, int kHeadDim>
__global__ void __launch_bounds__(kLandmarkThreads)
    update_landmarks_kernel(const __grid_constant__ UpdateLandmarksParams<T> params) {
  using Block = LandmarkBlock<T, kHeadDim, ManyChunks>;
  __shared__ typename Block::Shared shared;
  const LandmarkParams<T>& landmarks = params.landmarks;
  const Block block(landmarks, shared);
  const std::int64_t capacity = params.map.capacity();
  for (int request = static_cast<int>(blockIdx.y); request < landmarks.batch;
       request += static_cast<int>(gridDim.y)) {
    const std::int64_t from = max(params.from[request], 0);
    const std::int64_t to = min(std::int64_t{params.to[request]}, capacity);
    if (from >= to) continue;
    const std::int64_t first_span = from >> landmarks.span_shift;
    const std::int64_t num_spans = ((to - 1) >> landmarks.span_shift) - first_span + 1;
    for (std::int64_t unit = blockIdx.x; unit < num_spans * landmarks.num_kv_heads;
         unit += gridDim.x) {
      const int kv_head = static_cast<int>(unit % landmarks.num_kv_heads);
      const std::int64_t span = first_span + unit / landmarks.num_kv_heads;
      block.make(CachedKeys<T>(params.k, params.map, request, kv_head), request, kv_head,
                 SpanPositions(span, landmarks.span_shift, from, to));
    }
  }
}

}  // namespace hip_attn::cuda
