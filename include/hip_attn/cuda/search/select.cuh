/// Stage "select" on the GPU: one block keeps the best-scoring chunks.
#pragma once

#include <cstdint>
#include <cub/block/block_scan.cuh>

namespace hip_attn::cuda {

/// Orders as the float does: larger score, larger key. -0 and 0 are one score.
__device__ inline std::uint32_t order_key(float score) {
  const std::uint32_t bits = __float_as_uint(score + 0.f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

inline constexpr int kSelectBins = 2048;
/// Scores that a thread holds in registers; more than kThreads * 8 are read again in every pass.
inline constexpr int kSelectItems = 8;

template <int kThreads>
struct SelectStorage {
  // Warp scans have half the latency of the default raking scan.
  using Scan = cub::BlockScan<std::uint32_t, kThreads, cub::BLOCK_SCAN_WARP_SCANS>;
  std::uint32_t bins[kSelectBins];
  Scan::TempStorage scan;
  std::uint32_t lowest;
  std::uint32_t highest;
  std::uint32_t needed;
  bool whole_bin;
};

/// The scores as ordered keys: thread t holds `per_thread` neighbouring ones of each tile.
template <int kThreads, typename ScoreAt>
class SelectTile {
 public:
  __device__ SelectTile(const ScoreAt& score_at, std::int32_t count)
      : score_at_(score_at),
        count_(count),
        per_thread_(min(kSelectItems, (count + kThreads - 1) / kThreads)) {
    load(0);
  }

  __device__ std::int32_t size() const { return kThreads * per_thread_; }

  /// Calls visit(index, key) for this thread's scores, ascending, from `base` on.
  template <typename Visit>
  __device__ void for_each(std::int32_t base, Visit&& visit) {
    if (base != base_) load(base);
#pragma unroll
    for (int i = 0; i < kSelectItems; ++i) {
      const std::int32_t index = first_index() + i;
      if (i < per_thread_ && index < count_) visit(index, keys_[i]);
    }
  }

 private:
  __device__ std::int32_t first_index() const {
    return base_ + static_cast<int>(threadIdx.x) * per_thread_;
  }

  __device__ void load(std::int32_t base) {
    base_ = base;
#pragma unroll
    for (int i = 0; i < kSelectItems; ++i) {
      const std::int32_t index = first_index() + i;
      keys_[i] = i < per_thread_ && index < count_ ? order_key(score_at_(index)) : 0;
    }
  }

  const ScoreAt& score_at_;
  std::int32_t count_;
  std::int32_t base_ = 0;
  int per_thread_;
  std::uint32_t keys_[kSelectItems];
};

/// Keeps the `keep` highest of `count` scores (equal scores: the lower index) and hands their
/// indices over in ascending order: emit(rank, index). score_at(index) is one of the scores; each
/// is read once when there are at most kThreads * kSelectItems. Called by the whole block of
/// kThreads, 0 < keep < count.
///
/// The threshold is found by narrowing [lowest, highest] to the bin that holds the keep-th score,
/// 2048 bins over the range that is left: two rounds on ordinary scores, three at most, none when
/// all are equal. Bins over the range rather than over the bits: scores share their top bits, and a
/// histogram of those would serialise on a few counters.
template <int kThreads, typename ScoreAt, typename Emit>
__device__ void select_chunks(const ScoreAt& score_at, std::int32_t count, std::int32_t keep,
                              SelectStorage<kThreads>& storage, Emit&& emit) {
  using Scan = typename SelectStorage<kThreads>::Scan;
  const int thread = static_cast<int>(threadIdx.x);
  SelectTile<kThreads, ScoreAt> tile(score_at, count);
  if (thread == 0) {
    storage.lowest = 0xffffffffu;
    storage.highest = 0;
  }
#pragma unroll 1
  for (int bin = thread; bin < kSelectBins; bin += kThreads) storage.bins[bin] = 0;
  __syncthreads();
  std::uint32_t lowest = 0xffffffffu;
  std::uint32_t highest = 0;
#pragma unroll 1
  for (std::int32_t base = 0; base < count; base += tile.size()) {
    tile.for_each(base, [&](std::int32_t, std::uint32_t key) {
      lowest = min(lowest, key);
      highest = max(highest, key);
    });
  }
  lowest = __reduce_min_sync(0xffffffffu, lowest);
  highest = __reduce_max_sync(0xffffffffu, highest);
  if (thread % 32 == 0) {
    atomicMin(&storage.lowest, lowest);
    atomicMax(&storage.highest, highest);
  }
  __syncthreads();
  lowest = storage.lowest;
  highest = storage.highest;

  // Invariant: the keep-th score lies in [lowest, highest] and is the needed-th highest there.
  auto needed = static_cast<std::uint32_t>(keep);
  bool whole_bin = false;
  while (lowest < highest && !whole_bin) {
    const std::uint32_t range = highest - lowest;
    const int shift = max(0, 32 - __clz(range) - 11);
#pragma unroll 1
    for (std::int32_t base = 0; base < count; base += tile.size()) {
      tile.for_each(base, [&](std::int32_t, std::uint32_t key) {
        if (key >= lowest && key <= highest) atomicAdd(&storage.bins[(key - lowest) >> shift], 1u);
      });
    }
    __syncthreads();
    constexpr int kBinsPerThread = kSelectBins / kThreads;
    std::uint32_t counts[kBinsPerThread];  // highest bins first
    std::uint32_t sum = 0;
    for (int i = 0; i < kBinsPerThread; ++i) {
      std::uint32_t& bin = storage.bins[kSelectBins - 1 - thread * kBinsPerThread - i];
      counts[i] = bin;
      sum += bin;
      bin = 0;  // for the next round
    }
    std::uint32_t above = 0;
    Scan(storage.scan).ExclusiveSum(sum, above);
    for (int i = 0; i < kBinsPerThread; ++i) {
      if (above < needed && needed <= above + counts[i]) {  // in one thread alone
        const auto bin = static_cast<std::uint32_t>(kSelectBins - 1 - thread * kBinsPerThread - i);
        storage.lowest = lowest + (bin << shift);
        storage.highest = lowest + min(range, (bin << shift) + ((1u << shift) - 1));
        storage.needed = needed - above;
        storage.whole_bin = needed - above == counts[i];
      }
      above += counts[i];
    }
    __syncthreads();
    lowest = storage.lowest;
    highest = storage.highest;
    needed = storage.needed;
    whole_bin = storage.whole_bin;
  }

  // Kept: every key above `highest`, and in [lowest, highest] the first `needed` by index. When the
  // whole bin is kept, or one key is left, the order by index is also the order by score.
  std::uint32_t total_above = 0;
  std::uint32_t total_ties = 0;
#pragma unroll 1
  for (std::int32_t base = 0; base < count; base += tile.size()) {
    // Both counts in one scan: a tile holds 4096 items at most, so 16 bits suffice for each.
    std::uint32_t mine = 0;
    tile.for_each(base, [&](std::int32_t, std::uint32_t key) {
      mine += key > highest ? 1u : (key >= lowest ? 1u << 16 : 0u);
    });
    std::uint32_t before = 0;
    std::uint32_t tile_total = 0;
    Scan(storage.scan).ExclusiveSum(mine, before, tile_total);
    std::uint32_t above = total_above + (before & 0xffffu);
    std::uint32_t ties = total_ties + (before >> 16);
    tile.for_each(base, [&](std::int32_t index, std::uint32_t key) {
      if (key > highest) {
        emit(above + min(ties, needed), index);
        ++above;
      } else if (key >= lowest) {
        if (ties < needed) emit(above + ties, index);
        ++ties;
      }
    });
    total_above += tile_total & 0xffffu;
    total_ties += tile_total >> 16;
    __syncthreads();  // the scan's memory is used again
  }
}

}  // namespace hip_attn::cuda
