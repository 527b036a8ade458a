/// The running softmax of the rows of one tile in the Hopper attend kernel.
#pragma once

#include <cfloat>
#include <cstdint>

#include "hip_attn/cuda/attend/sm90/policy.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"

namespace hip_attn::cuda::sm90 {

/// Of the two rows that this thread holds columns of, as AttendConsumer has them. A row belongs to
/// the four threads of a quad; what follows for it depends on its own logits alone, not on the rows
/// beside it, so that it is the same to the bit in any kernel.
///
/// Probabilities are relative to 2^reference. The reference follows the largest logit from below:
/// it changes only when a logit exceeds it by more than kMostAbove. So most tiles need no maximum
/// of the whole row, and rescale nothing.
class RowSoftmax {
 public:
  static constexpr int kColumns = kKeysPerTile / 4;  ///< of a row that this thread holds
  using Logits = float[2 * kColumns];

  /// Logits, once times `multiplier` in units of log 2, become probabilities. True: in this warp
  /// references have changed, and what has been summed up of row i is to be multiplied by
  /// rescale[i].
  __device__ bool take(Logits& logits, float multiplier, float (&rescale)[2]) {
    const bool changed = find_references(logits, multiplier, rescale);
    float sum[2][4];  // four chains a row: one alone would wait for itself
#pragma unroll
    for (int i = 0; i < 2 * kColumns; ++i) {
      const int row = i / 4 % 2;
      float& logit = at(logits, row, i / 8 * 4 + i % 4);
      logit = exp2_fast(fmaf(logit, multiplier, -reference_[row]));
      float& chain = sum[row][i % 4];
      chain = i < 8 ? logit : chain + logit;
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      sum_[row] += (sum[row][0] + sum[row][1]) + (sum[row][2] + sum[row][3]);
    }
    return changed;
  }

  /// A condition that needs all probabilities so far.
  __device__ bool is_number() const { return sum_[0] >= 0.f && sum_[1] >= 0.f; }

  /// The sum of row i. Called by the whole warp.
  __device__ float sum(int i) const {
    float sum = sum_[i];
    sum += __shfl_xor_sync(kAll, sum, 1);
    sum += __shfl_xor_sync(kAll, sum, 2);
    return sum;
  }
  /// The natural logarithm of what the row's probabilities add up to, of which sum(i) is `sum`.
  __device__ float lse(int i, float sum) const {
    constexpr float kLog2 = 0.693147181f;
    return sum == 0.f ? -INFINITY : (reference_[i] + log2f(sum)) * kLog2;
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  /// Probabilities are at most 2^8 then, and neither they nor sums and outputs lose precision.
  static constexpr float kMostAbove = 8.f;
  /// Every logit but -inf exceeds it.
  static constexpr float kNoReference = -FLT_MAX;

  /// Column i of row 0 or 1.
  __device__ static float& at(Logits& logits, int row, int i) {
    return logits[i / 2 * 4 + row * 2 + i % 2];
  }

  __device__ bool is_above(int row, float logit, float multiplier) const {
    return fmaf(logit, multiplier, -reference_[row]) > kMostAbove;
  }

  /// True: references have changed in this warp, as take() says. Only then is rescale written.
  __device__ bool find_references(Logits& logits, float multiplier, float (&rescale)[2]) {
    float largest[2][4];
#pragma unroll
    for (int i = 0; i < 2 * kColumns; ++i) {
      const int row = i / 4 % 2;
      const float logit = at(logits, row, i / 8 * 4 + i % 4);
      largest[row][i % 4] = i < 8 ? logit : fmaxf(largest[row][i % 4], logit);
    }
    float most[2];
    bool any_above = false;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      most[row] =
          fmaxf(fmaxf(largest[row][0], largest[row][1]), fmaxf(largest[row][2], largest[row][3]));
      any_above |= is_above(row, most[row], multiplier);
    }
    const bool changed = __any_sync(kAll, any_above);
    if (changed) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        most[row] = fmaxf(most[row], __shfl_xor_sync(kAll, most[row], 1));
        most[row] = fmaxf(most[row], __shfl_xor_sync(kAll, most[row], 2));
        rescale[row] = 1.f;
        if (!is_above(row, most[row], multiplier)) continue;
        const float next = __fmul_rn(most[row], multiplier);
        rescale[row] = exp2_fast(reference_[row] - next);
        sum_[row] *= rescale[row];
        reference_[row] = next;
      }
    }
    return changed;
  }

  float reference_[2] = {kNoReference, kNoReference};  ///< in units of log 2
  float sum_[2] = {};                                  ///< of this thread's columns
};

}  // namespace hip_attn::cuda::sm90
