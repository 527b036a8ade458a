/// Stage "select" of decode: the threshold search of select.cuh for scores that fit the registers
/// of one block, with half the barriers.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode_params.hpp"
#include "hip_attn/cuda/select.cuh"

namespace hip_attn::cuda {

/// Scores that decode's block holds in registers.
inline constexpr int kRegisterScores = kDecodeThreads * kSelectItems;

struct RegisterSelectStorage {
  std::uint32_t bins[kSelectBins];
  std::uint32_t lowest[kDecodeWarps];  ///< of each warp's scores
  std::uint32_t highest[kDecodeWarps];
  std::uint32_t segments[kDecodeWarps];  ///< scores in each sixteenth of the bins, highest first
  std::uint32_t kept[kDecodeWarps];
  std::uint32_t few[32];  ///< scores of the bin that holds the threshold
  std::uint32_t num_few;
};

/// Finds the `keep` highest of up to kRegisterScores scores; called by the whole block.
class RegisterSelect {
 public:
  __device__ explicit RegisterSelect(RegisterSelectStorage& storage) : storage_(storage) {}

  /// As select_chunks: 0 < keep < count <= kRegisterScores. A thread takes eight neighbouring
  /// scores, so that few warps work on few scores; scores are 16-byte aligned in memory that other
  /// blocks wrote, up to the next multiple of eight.
  template <typename Emit>
  __device__ void run(const float* scores, std::int32_t count, std::int32_t keep, Emit&& emit) {
    mine_ = min(max(count - first(), 0), kSelectItems);
    static_assert(kSelectItems == 8);
    float4 low{};
    float4 high{};
    if (mine_ > 0) {
      // __ldcg reads past this multiprocessor's L1.
      low = __ldcg(reinterpret_cast<const float4*>(scores + first()));
      high = __ldcg(reinterpret_cast<const float4*>(scores + first()) + 1);
    }
    keys_[0] = order_key(low.x);
    keys_[1] = order_key(low.y);
    keys_[2] = order_key(low.z);
    keys_[3] = order_key(low.w);
    keys_[4] = order_key(high.x);
    keys_[5] = order_key(high.y);
    keys_[6] = order_key(high.z);
    keys_[7] = order_key(high.w);
    find_range();
    needed_ = static_cast<std::uint32_t>(keep);
#pragma unroll 1
    while (lowest_ < highest_ && !narrow()) {
    }
    hand_over(emit);
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kSegmentBins = kSelectBins / kDecodeWarps;
  static_assert(kSegmentBins == 4 * 32 && kDecodeWarps <= 16);

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ static int warp() { return static_cast<int>(threadIdx.x / 32); }
  __device__ static std::int32_t first() { return static_cast<int>(threadIdx.x) * kSelectItems; }

  template <typename Visit>
  __device__ void for_each(Visit&& visit) const {
    if (mine_ == 0) return;
#pragma unroll
    for (int i = 0; i < kSelectItems; ++i) {
      if (i < mine_) visit(i, keys_[i]);
    }
  }

  __device__ void clear_bins() {
    reinterpret_cast<uint4*>(storage_.bins)[threadIdx.x] = make_uint4(0, 0, 0, 0);
  }
  static_assert(kSelectBins == 4 * kDecodeThreads);

  __device__ void find_range() {
    std::uint32_t lowest = kAll;
    std::uint32_t highest = 0;
    for_each([&](int, std::uint32_t key) {
      lowest = min(lowest, key);
      highest = max(highest, key);
    });
    lowest = __reduce_min_sync(kAll, lowest);
    highest = __reduce_max_sync(kAll, highest);
    if (lane() == 0) {
      storage_.lowest[warp()] = lowest;
      storage_.highest[warp()] = highest;
    }
    if (threadIdx.x == 0) storage_.num_few = 0;
    clear_bins();
    __syncthreads();
    lowest_ = __reduce_min_sync(kAll, storage_.lowest[lane() % kDecodeWarps]);
    highest_ = __reduce_max_sync(kAll, storage_.highest[lane() % kDecodeWarps]);
  }

  __device__ bool in_range(std::uint32_t key) const { return key >= lowest_ && key <= highest_; }

  /// The sum up to and including this lane's value.
  __device__ static std::uint32_t running_sum(std::uint32_t value) {
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const std::uint32_t before = __shfl_up_sync(kAll, value, lanes);
      if (lane() >= lanes) value += before;
    }
    return value;
  }

  /// Narrows [lowest_, highest_] to the bin that holds the needed_-th highest score in it; every
  /// warp finds the same. True: what is left needs no further narrowing.
  __device__ bool narrow() {
    const std::uint32_t range = highest_ - lowest_;
    const int shift = max(0, 32 - __clz(range) - 11);
    for_each([&](int, std::uint32_t key) {
      if (in_range(key)) atomicAdd(&storage_.bins[(key - lowest_) >> shift], 1u);
    });
    __syncthreads();
    const uint4 own = segment(warp());
    const std::uint32_t own_sum = __reduce_add_sync(kAll, own.x + own.y + own.z + own.w);
    if (lane() == 0) storage_.segments[warp()] = own_sum;
    __syncthreads();

    // First the segment, then in it the lane's four bins, then the bin.
    std::uint32_t value = lane() < kDecodeWarps ? storage_.segments[lane()] : 0;
    std::uint32_t sum = running_sum(value);
    int at = __ffs(__ballot_sync(kAll, sum >= needed_)) - 1;
    const int segment_number = at;
    needed_ -= __shfl_sync(kAll, sum - value, at);
    const uint4 bins = segment(segment_number);
    value = bins.x + bins.y + bins.z + bins.w;
    sum = running_sum(value);
    at = __ffs(__ballot_sync(kAll, sum >= needed_)) - 1;
    needed_ -= __shfl_sync(kAll, sum - value, at);
    std::uint32_t bin = kSelectBins - 1 - segment_number * kSegmentBins - at * 4;
    std::uint32_t in_bin = __shfl_sync(kAll, bins.w, at);
    for (const std::uint32_t next : {bins.z, bins.y, bins.x}) {
      const std::uint32_t in_next = __shfl_sync(kAll, next, at);
      if (needed_ > in_bin) {
        needed_ -= in_bin;
        in_bin = in_next;
        --bin;
      }
    }
    highest_ = lowest_ + min(range, (bin << shift) + ((1u << shift) - 1));
    lowest_ += bin << shift;
    if (needed_ == in_bin || shift == 0) return true;
    if (in_bin <= 32) {
      rank_few(static_cast<int>(in_bin));
      return true;
    }
    __syncthreads();  // all have read the bins
    clear_bins();
    __syncthreads();
    return false;
  }

  /// Bins in descending order: lane 0's w is the highest of the segment.
  __device__ uint4 segment(int number) const {
    return reinterpret_cast<const uint4*>(storage_.bins +
                                          (kDecodeWarps - 1 - number) * kSegmentBins)[31 - lane()];
  }

  /// Up to 32 scores are left: the needed_-th highest by comparing all with all.
  __device__ void rank_few(int count) {
    for_each([&](int, std::uint32_t key) {
      if (in_range(key)) storage_.few[atomicAdd(&storage_.num_few, 1u)] = key;
    });
    __syncthreads();
    const std::uint32_t key = lane() < count ? storage_.few[lane()] : 0;
    std::uint32_t above = 0;
    std::uint32_t equal = 0;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const std::uint32_t other = __shfl_sync(kAll, key, i);
      above += other > key;
      equal += other == key;
    }
    const bool is_threshold = lane() < count && above < needed_ && needed_ <= above + equal;
    const int at = __ffs(__ballot_sync(kAll, is_threshold)) - 1;
    lowest_ = highest_ = __shfl_sync(kAll, key, at);
    needed_ -= __shfl_sync(kAll, above, at);
  }

  /// Kept: every score above highest_, and in [lowest_, highest_] the first needed_ by index.
  template <typename Emit>
  __device__ void hand_over(Emit&& emit) {
    // Both counts in one sum: 16 bits suffice for each.
    std::uint32_t mine = 0;
    for_each([&](int, std::uint32_t key) {
      mine += key > highest_ ? 1u : (key >= lowest_ ? 1u << 16 : 0u);
    });
    std::uint32_t before = running_sum(mine);
    if (lane() == 31) storage_.kept[warp()] = before;
    before -= mine;
    __syncthreads();
    before += __reduce_add_sync(kAll, lane() < warp() ? storage_.kept[lane()] : 0u);
    std::uint32_t above = before & 0xffffu;
    std::uint32_t ties = before >> 16;
    for_each([&](int i, std::uint32_t key) {
      if (key > highest_) {
        emit(above + min(ties, needed_), first() + i);
        ++above;
      } else if (key >= lowest_) {
        if (ties < needed_) emit(above + ties, first() + i);
        ++ties;
      }
    });
  }

  RegisterSelectStorage& storage_;
  int mine_ = 0;
  std::uint32_t keys_[kSelectItems];
  std::uint32_t lowest_ = 0;
  std::uint32_t highest_ = 0;
  std::uint32_t needed_ = 0;
};

}  // namespace hip_attn::cuda
