/// The logits of a stage whose scores need those of every row (StagePlan::needs_row_logits).
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

inline constexpr float kNoLogit = -__builtin_inff();

/// NaN counts as -inf.
__device__ inline float not_nan(float logit) { return fmaxf(logit, kNoLogit); }

/// [num_rows][chunks of the stage] with a stride between rows; at least one row.
struct RowLogits {
  float* logits;
  std::int64_t stride;
  std::int32_t num_rows;

  __device__ float* at(std::int32_t row, std::int32_t chunk) const {
    return logits + (row * stride + chunk);
  }
};

/// The score of a chunk by Reduction::kMaximum.
__device__ inline float largest_logit(const RowLogits& logits, std::int32_t chunk) {
  float largest = kNoLogit;
#pragma unroll 4
  for (std::int32_t row = 0; row < logits.num_rows; ++row) {
    largest = fmaxf(largest, *logits.at(row, chunk));
  }
  return largest;
}

}  // namespace hip_attn::cuda
