/// Stage "select" of decode for scores that fit the registers of one block: one histogram, few
/// barriers, short code. Scores that this does not suit go to select.cuh.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode/params.hpp"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/search/select.cuh"

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
  int2 range[kDecodeWarps];          ///< bits_in_order of each warp's lowest and highest score
  std::uint32_t kept[kDecodeWarps];  ///< of each warp's scores
  Candidate few[kFew];               ///< scores of the bin that holds the threshold
};

/// Finds the `keep` highest of up to kItems scores for each thread; called by the whole block.
/// Short code matters: eight warps with four scores to a thread took 0.5 us a stage more than 16
/// with two (H200).
///
/// Bins are linear in the score, 2048 between lowest and highest, so that the bin with the
/// threshold holds a few scores, which are compared one by one.
template <int kItems>
class RegisterSelect {
 public:
  __device__ explicit RegisterSelect(RegisterSelectStorage& storage) : storage_(storage) {}

  /// As select_chunks: 0 < keep < count <= kDecodeThreads * kItems. False, and nothing emitted:
  /// all scores are equal, one is infinite or their range is, or more than kFew share the bin with
  /// the threshold and are not all kept.
  template <typename Emit>
  __device__ bool run(const float* scores, std::int32_t count, std::int32_t keep, Emit&& emit) {
    // Written by other blocks of the team: __ldcg reads past this multiprocessor's L1.
    const float* const mine = scores + index(0);
    return run_on([&](int i) { return __ldcg(mine + i * 32); }, count, keep, emit);
  }
  /// The same of scores that score_at(index) gives.
  template <typename ScoreAt, typename Emit>
  __device__ bool run_at(ScoreAt&& score_at, std::int32_t count, std::int32_t keep, Emit&& emit) {
    return run_on([&](int i) { return score_at(index(i)); }, count, keep, emit);
  }

 private:
  /// score(i): of index(i), where that is below count.
  template <typename Score, typename Emit>
  __device__ bool run_on(Score&& score, std::int32_t count, std::int32_t keep, Emit&& emit) {
    count_ = count;
    for_each([&](int i) { score_[i] = index(i) < count_ ? score(i) : NAN; });
    reinterpret_cast<uint4*>(storage_.bins)[threadIdx.x] = make_uint4(0, 0, 0, 0);
    if (warp() == 0) storage_.segments[lane()] = 0;
    if (!fill_bins() || !find_threshold(static_cast<std::uint32_t>(keep))) return false;
    hand_over(emit);
    return true;
  }

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
    const int low = __reduce_min_sync(kAll, bits_in_order(__float_as_int(lowest)));
    const int high = __reduce_max_sync(kAll, bits_in_order(__float_as_int(highest)));
    if (lane() == 0) storage_.range[warp()] = make_int2(low, high);
    __syncthreads();
    const int2 of_warp = storage_.range[lane() % kDecodeWarps];
    lowest = __int_as_float(bits_in_order(__reduce_min_sync(kAll, of_warp.x)));
    highest = __int_as_float(bits_in_order(__reduce_max_sync(kAll, of_warp.y)));
    const float range = highest - lowest;
    if (!(range > 0.f && range < INFINITY)) return false;

    // Whatever the rounding, a lower score is in no higher bin.
    float scale;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(scale) : "f"(range));
    scale *= kSelectBins;
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
      asm volatile(
          "{\n"
          " .reg .b32 before;\n"
          " .reg .pred p;\n"
          " shfl.sync.up.b32 before|p, %0, %1, 0, -1;\n"
          " @p add.u32 %0, %0, before;\n"
          "}"
          : "+r"(value)
          : "r"(lanes));
    }
    return value;
  }

  /// Finds the bin of the keep-th highest score; every warp finds the same. False: it holds too
  /// many.
  __device__ bool find_threshold(std::uint32_t needed) {
    // First the segment, then in it the lane's two bins, then the bin.
    const std::uint32_t in_segment = storage_.segments[lane()];
    std::uint32_t sum = running_sum(in_segment);
    const int segment = __ffs(__ballot_sync(kAll, sum >= needed)) - 1;
    needed -= __shfl_sync(kAll, sum - in_segment, segment);
    const uint2 bins =
        reinterpret_cast<const uint2*>(storage_.bins + segment * kSegmentBins)[lane()];
    sum = running_sum(bins.x + bins.y);
    const int at = __ffs(__ballot_sync(kAll, sum >= needed)) - 1;
    needed -= __shfl_sync(kAll, sum - bins.x - bins.y, at);
    std::uint32_t bin = segment * kSegmentBins + at * 2;
    std::uint32_t in_bin = __shfl_sync(kAll, bins.x, at);
    const std::uint32_t in_second = __shfl_sync(kAll, bins.y, at);
    if (needed > in_bin) {
      needed -= in_bin;
      in_bin = in_second;
      ++bin;
    }
    end_ = (bin + 1) << 16;
    if (needed == in_bin) return true;
    if (in_bin > RegisterSelectStorage::kFew) return false;
    rank_bin(bin, in_bin, needed);
    return true;
  }

  /// Drops the scores of a bin that are not its `needed` highest.
  __device__ void rank_bin(std::uint32_t bin, std::uint32_t in_bin, std::uint32_t needed) {
    for_each([&](int i) {
      if (place_[i] >> 16 == bin) storage_.few[place_[i] & 0xffffu] = {score_[i], index(i)};
    });
    __syncthreads();
    for_each([&](int i) {
      if (place_[i] >> 16 != bin) return;
      std::uint32_t above = 0;
#pragma unroll 1
      for (std::uint32_t k = 0; k < in_bin; ++k) {
        const Candidate other = storage_.few[k];
        above += other.score > score_[i] || (other.score == score_[i] && other.index < index(i));
      }
      if (above >= needed) place_[i] = kAll;
    });
  }

  template <typename Emit>
  __device__ void hand_over(Emit&& emit) {
    std::uint32_t of_warp = 0;
    for_each([&](int i) { of_warp += __popc(__ballot_sync(kAll, place_[i] < end_)); });
    if (lane() == 0) storage_.kept[warp()] = of_warp;
    __syncthreads();
    std::uint32_t rank = __reduce_add_sync(kAll, lane() < warp() ? storage_.kept[lane()] : 0u);
    for_each([&](int i) {
      const std::uint32_t lanes = __ballot_sync(kAll, place_[i] < end_);
      if (place_[i] < end_) emit(rank + __popc(lanes & ((1u << lane()) - 1)), index(i));
      rank += __popc(lanes);
    });
  }

  RegisterSelectStorage& storage_;
  std::int32_t count_ = 0;
  float score_[kItems];
  /// Bin in the upper half, number in it in the lower; kAll: there is no such score, or dropped.
  std::uint32_t place_[kItems];
  std::uint32_t end_ = 0;  ///< places before this are kept
};

}  // namespace hip_attn::cuda
