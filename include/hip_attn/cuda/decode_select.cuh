/// Stage "select" of decode for scores that fit the registers of one block: one histogram, few
/// barriers, short code. Scores that this does not suit go to select.cuh.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode_params.hpp"
#include "hip_attn/cuda/select.cuh"

namespace hip_attn::cuda {

/// Scores that decode's block holds in registers.
inline constexpr int kRegisterScores = kDecodeThreads * kSelectItems;

struct RegisterSelectStorage {
  static constexpr int kSegmentBins = kSelectBins / 32;
  static constexpr int kFew = 64;

  struct Candidate {
    float score;
    std::int32_t index;
  };

  std::uint32_t bins[kSelectBins];   ///< scores in each, the highest first
  std::uint32_t segments[32];        ///< and in each kSegmentBins of them
  uint2 range[kDecodeWarps];         ///< lowest and highest key of each warp's scores
  std::uint32_t kept[kDecodeWarps];  ///< of each warp's scores
  Candidate few[kFew];               ///< scores of the bin that holds the threshold
};

/// Finds the `keep` highest of up to kRegisterScores scores; called by the whole block.
///
/// Bins are linear in the score, 2048 between lowest and highest, so that the bin with the
/// threshold holds a few scores, which are compared one by one.
template <int kItems>
class RegisterSelect {
 public:
  __device__ explicit RegisterSelect(RegisterSelectStorage& storage) : storage_(storage) {}

  /// As select_chunks: 0 < keep < count <= kRegisterScores. False, and nothing emitted, when more
  /// than kFew scores share the bin with the threshold, or all scores are equal or one infinite.
  template <typename Emit>
  __device__ bool run(const float* scores, std::int32_t count, std::int32_t keep, Emit&& emit) {
    count_ = count;
    // Written by other blocks of the team: __ldcg reads past this multiprocessor's L1.
    for_each([&](int i) { score_[i] = index(i) < count_ ? __ldcg(scores + index(i)) : NAN; });
    reinterpret_cast<uint4*>(storage_.bins)[threadIdx.x] = make_uint4(0, 0, 0, 0);
    if (warp() == 0) storage_.segments[lane()] = 0;
    if (!fill_bins() || !find_threshold(static_cast<std::uint32_t>(keep))) return false;
    hand_over(emit);
    return true;
  }

 private:
  using Candidate = RegisterSelectStorage::Candidate;
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kSegmentBins = RegisterSelectStorage::kSegmentBins;
  static_assert(kSelectBins == 4 * kDecodeThreads && kSegmentBins == 2 * 32);

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ static int warp() { return static_cast<int>(threadIdx.x / 32); }

  /// Calls visit(i) for what this thread holds, also where index(i) is not below count_: the number
  /// of calls is the same in all threads.
  template <typename Visit>
  __device__ void for_each(Visit&& visit) const {
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      visit(i);
    }
  }

  /// A warp holds neighbouring scores, each 32 of them by its lanes.
  __device__ std::int32_t index(int i) const { return (warp() * kItems + i) * 32 + lane(); }

  /// Counts the scores in bins; false: there is no range to divide.
  __device__ bool fill_bins() {
    float lowest = INFINITY;
    float highest = -INFINITY;
    for_each([&](int i) {  // fminf and fmaxf pass NaN over
      lowest = fminf(lowest, score_[i]);
      highest = fmaxf(highest, score_[i]);
    });
    const std::uint32_t low_key = __reduce_min_sync(kAll, order_key(lowest));
    const std::uint32_t high_key = __reduce_max_sync(kAll, order_key(highest));
    if (lane() == 0) storage_.range[warp()] = make_uint2(low_key, high_key);
    __syncthreads();
    const uint2 of_warp = storage_.range[lane() % kDecodeWarps];
    lowest = order_value(__reduce_min_sync(kAll, of_warp.x));
    highest = order_value(__reduce_max_sync(kAll, of_warp.y));
    const float range = highest - lowest;
    if (!(range > 0.f && range < INFINITY)) return false;

    // Whatever the rounding, a lower score is in no higher bin.
    const float scale = __fdividef(kSelectBins, range);
    for_each([&](int i) {
      place_[i] = kAll;
      if (index(i) < count_) {
        const std::uint32_t bin =
            min(__float2uint_rz((highest - score_[i]) * scale), kSelectBins - 1u);
        place_[i] = bin << 16 | atomicAdd(&storage_.bins[bin], 1u);
        atomicAdd(&storage_.segments[bin / kSegmentBins], 1u);
      }
    });
    __syncthreads();
    return true;
  }

  /// The sum up to and including this lane's value.
  __device__ static std::uint32_t running_sum(std::uint32_t value) {
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const std::uint32_t before = __shfl_up_sync(kAll, value, lanes);
      if (lane() >= lanes) value += before;
    }
    return value;
  }

  /// Finds the bin of the keep-th highest score; every warp finds the same. False: it holds too
  /// many.
  __device__ bool find_threshold(std::uint32_t keep) {
    needed_ = keep;
    // First the segment, then in it the lane's two bins, then the bin.
    const std::uint32_t in_segment = storage_.segments[lane()];
    std::uint32_t sum = running_sum(in_segment);
    const int segment = __ffs(__ballot_sync(kAll, sum >= needed_)) - 1;
    needed_ -= __shfl_sync(kAll, sum - in_segment, segment);
    const uint2 bins =
        reinterpret_cast<const uint2*>(storage_.bins + segment * kSegmentBins)[lane()];
    sum = running_sum(bins.x + bins.y);
    const int at = __ffs(__ballot_sync(kAll, sum >= needed_)) - 1;
    needed_ -= __shfl_sync(kAll, sum - bins.x - bins.y, at);
    in_bin_ = __shfl_sync(kAll, bins.x, at);
    const std::uint32_t in_second = __shfl_sync(kAll, bins.y, at);
    threshold_ = segment * kSegmentBins + at * 2;
    if (needed_ > in_bin_) {
      needed_ -= in_bin_;
      in_bin_ = in_second;
      ++threshold_;
    }
    if (needed_ == in_bin_) {
      ++threshold_;
      needed_ = in_bin_ = 0;
      return true;
    }
    if (in_bin_ > RegisterSelectStorage::kFew) return false;
    for_each([&](int i) {
      if (place_[i] >> 16 == threshold_) storage_.few[place_[i] & 0xffffu] = {score_[i], index(i)};
    });
    __syncthreads();
    return true;
  }

  /// One of the needed_ highest of the bin that holds the threshold.
  __device__ bool is_needed(float score, std::int32_t index) const {
    std::uint32_t above = 0;
#pragma unroll 1
    for (std::uint32_t i = 0; i < in_bin_; ++i) {
      const Candidate other = storage_.few[i];
      above += other.score > score || (other.score == score && other.index < index);
    }
    return above < needed_;
  }

  template <typename Emit>
  __device__ void hand_over(Emit&& emit) {
    std::uint32_t kept = 0;  // bit i: of score i
    std::uint32_t of_warp = 0;
    for_each([&](int i) {
      const bool keeps = place_[i] >> 16 < threshold_ ||
                         (place_[i] >> 16 == threshold_ && is_needed(score_[i], index(i)));
      kept |= static_cast<std::uint32_t>(keeps) << i;
      of_warp += __popc(__ballot_sync(kAll, keeps));
    });
    if (lane() == 0) storage_.kept[warp()] = of_warp;
    __syncthreads();
    std::uint32_t rank = __reduce_add_sync(kAll, lane() < warp() ? storage_.kept[lane()] : 0u);
    for_each([&](int i) {
      const bool keeps = kept >> i & 1u;
      const std::uint32_t lanes = __ballot_sync(kAll, keeps);
      if (keeps) emit(rank + __popc(lanes & ((1u << lane()) - 1)), index(i));
      rank += __popc(lanes);
    });
  }

  RegisterSelectStorage& storage_;
  std::int32_t count_ = 0;
  float score_[kItems];
  std::uint32_t place_[kItems];  ///< bin in the upper half, number in it in the lower
  std::uint32_t threshold_ = 0;  ///< the bin of the last score that is kept
  std::uint32_t in_bin_ = 0;     ///< scores in it
  std::uint32_t needed_ = 0;     ///< of which so many are kept
};

}  // namespace hip_attn::cuda
