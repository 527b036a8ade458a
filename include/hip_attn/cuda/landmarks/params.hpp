/// What the kernels that make landmarks are told: plain structs, by value. Strides count elements.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/landmarks.hpp"

namespace hip_attn::cuda {

/// Landmarks to make. Thread blocks share the positions of a request by spans of 2^span_shift: a
/// span is whole chunks of every level, so that no block waits for another's landmarks.
template <typename Stored>
struct LandmarkParams {
  LandmarkTensor<Stored> levels[kMaxLandmarkLevels];  ///< finest first; written
  std::int32_t chunk_shifts[kMaxLandmarkLevels];      ///< log2 of the chunk size
  std::int32_t num_levels;                            ///< at least 1
  std::int32_t span_shift;
  std::int32_t num_kv_heads;
  std::int32_t batch;
  float spread;
};

template <typename Stored>
struct UpdateLandmarksParams {
  LandmarkParams<Stored> landmarks;
  PagedTensor<Stored> k;
  PageMap map;               ///< of the keys
  const std::int32_t* from;  ///< [B]
  const std::int32_t* to;    ///< [B]
};

}  // namespace hip_attn::cuda
