/// The launch of update_landmarks, and what it shares with that of append_kv.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/landmarks/update.cuh"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/kv.hpp"

namespace hip_attn::cuda {

/// Landmarks with at least one level. groups: chunks that a block makes at once.
template <Element T>
LandmarkParams<T> landmark_params(const Landmarks<T>& landmarks, int groups, std::int64_t heads,
                                  std::int64_t batch) {
  const auto log2_of = [](std::int64_t size) {
    return static_cast<std::int32_t>(std::bit_width(static_cast<std::uint64_t>(size))) - 1;
  };
  LandmarkParams<T> params{};
  params.num_levels = landmarks.num_levels;
  for (int i = 0; i < landmarks.num_levels; ++i) {
    const LandmarkLevel<T>& level = landmarks.levels[static_cast<std::size_t>(i)];
    params.levels[i] = landmark_tensor(level);
    params.chunk_shifts[i] = log2_of(level.chunk_size);
  }
  // A chunk for every group of a block, within the range of a position.
  params.span_shift = std::max(params.chunk_shifts[params.num_levels - 1],
                               std::min(params.chunk_shifts[0] + log2_of(groups), 30));
  params.num_kv_heads = static_cast<std::int32_t>(heads);
  params.batch = static_cast<std::int32_t>(batch);
  params.spread = landmarks.spread;
  return params;
}

/// Arguments that update_landmarks() has found right, for rows of kHeadDim elements.
template <int kHeadDim, Element T>
Status update_landmarks(Device device, const UpdateLandmarksArgs<T>& args, Stream stream) {
  const std::int64_t batch = args.to.sizes[0];
  const std::int64_t heads = args.kv.pages.num_kv_heads();
  if (batch == 0 || heads == 0 || args.landmarks.num_levels == 0) return {};
  const KvTensors<T> kv = kv_tensors(args.kv);
  const UpdateLandmarksParams<T> params{
      .landmarks = landmark_params(args.landmarks, LandmarkBlock<T, kHeadDim, ManyChunks>::kGroups,
                                   heads, batch),
      .k = kv.k,
      .map = kv.map,
      .from = args.from.data,
      .to = args.to.data,
  };
  const std::int64_t capacity =
      std::min<std::int64_t>(kv.map.capacity(), std::numeric_limits<std::int32_t>::max());
  const std::int64_t tokens = args.max_tokens > 0 ? std::min(args.max_tokens, capacity) : capacity;
  // Positions that begin anywhere in a span reach into one more.
  const std::int64_t spans = ((tokens - 2) >> params.landmarks.span_shift) + 2;
  dim3 grid = grid_for(std::max<std::int64_t>(spans, 1) * heads, 1);
  constexpr std::int64_t kMostGridRows = 65535;
  grid.y = static_cast<unsigned>(std::min(batch, kMostGridRows));
  return launch("update_landmarks", update_landmarks_kernel<T, kHeadDim>, grid,
                dim3(kLandmarkThreads), device, stream, params);
}

}  // namespace hip_attn::cuda
