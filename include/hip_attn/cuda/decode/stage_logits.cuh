/// What a scan of decode writes down of the chunks that it scores: by Reduction::kSoftmaxSum the
/// logit of every row, by Reduction::kMaximum the largest product of all of them.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/decode/warp_attention.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// Logits of a row are in units of log 2.
struct StageLogits {
  RowLogits rows;    ///< of a maximum one row, which is the scores
  bool sums;         ///< Reduction::kSoftmaxSum
  LogitScale scale;  ///< not used by a maximum, which compares products

  __device__ float operator()(float product) const {
    if (!sums) return not_nan(product);
    const float logit = product * scale.scale_log2;
    return not_nan(scale.softcap_log2 > 0.f ? soft_cap(logit, scale.softcap_log2) : logit);
  }
};

/// log(2^a + 2^b) in units of log 2.
__device__ inline float log_of_sum(float a, float b) {
  const float max = fmaxf(a, b);
  return max == kNoLogit ? max : max + __log2f(mass_of(a, max) + mass_of(b, max));
}

/// For a softmax sum, writes down the largest logit of each row that a descent sees (DecodeScan). A
/// lane has the same rows of the same chunks on every level.
struct DescentLogits {
  StageLogits logits;
  std::int32_t num_chunks;

  __device__ void begin(std::int32_t chunk) const {
    if (!logits.sums || chunk >= num_chunks) return;
#pragma unroll 1
    for (int row = static_cast<int>(threadIdx.x % 4) * 2; row < logits.rows.num_rows;
         row += kRowsPerTile) {
      *logits.rows.at(row, chunk) = kNoLogit;
      if (row + 1 < logits.rows.num_rows) *logits.rows.at(row + 1, chunk) = kNoLogit;
    }
  }

  __device__ void observe(std::int32_t chunk, bool has_left, bool has_right, const float (&c)[4],
                          int row) const {
    if (!logits.sums || chunk >= num_chunks) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (row + i >= logits.rows.num_rows) return;
      float* const largest = logits.rows.at(row + i, chunk);
      const float left = has_left ? logits(c[i]) : kNoLogit;
      const float right = has_right ? logits(c[2 + i]) : kNoLogit;
      *largest = fmaxf(*largest, fmaxf(left, right));
    }
  }
};

}  // namespace hip_attn::cuda
