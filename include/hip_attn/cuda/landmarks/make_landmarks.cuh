/// Landmarks made from keys by a thread block (docs/guide/algorithm.md, "Landmarks"): bit for bit
/// those of cpu/make_landmarks.hpp.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>

#include "hip_attn/cuda/landmarks/params.hpp"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/extremes.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"

namespace hip_attn::cuda {

inline constexpr int kLandmarkThreads = 256;

/// How much of a row one thread reads at once, and of how many keys before it waits. A thread sums
/// its elements over all keys of a chunk: the order of the sum is part of the result.
///
/// For many chunks: the widest access, and two blocks with 128 bytes per thread under way, because
/// registers for more spill. The keys of 128k tokens and 8 heads are read at 3.3 TB/s (H200).
/// Where rows are copied beside it, a thread copies from several at once, as the blocks are few.
struct ManyChunks {
  static constexpr int kLaneBytes = 16;
  static constexpr int kKeysInFlight = 8;
  static constexpr int kBlocksPerSm = 2;
  static constexpr int kRowsCopied = 4;
};
/// For the one chunk that a step of decode completes: a chunk of 64 keys in one round trip to
/// memory.
struct OneChunk {
  static constexpr int kLaneBytes = 4;
  static constexpr int kKeysInFlight = 64;
  static constexpr int kBlocksPerSm = 2;
  static constexpr int kRowsCopied = 1;
};

/// Positions of a request in one span.
struct SpanPositions {
  std::int64_t from;
  std::int64_t to;

  __device__ SpanPositions(std::int64_t span, int span_shift, std::int64_t request_from,
                           std::int64_t request_to)
      : from(max(request_from, span << span_shift)),
        to(min(request_to, (span + 1) << span_shift)) {}
};

/// The keys of one request and KV head, all of them in the cache.
template <typename Stored>
struct CachedKeys {
  const PageMap& map;
  RequestPages pages;
  PagedRows<Stored> rows;

  __device__ CachedKeys(const PagedTensor<Stored>& k, const PageMap& key_map, int request,
                        int kv_head)
      : map(key_map), pages(key_map, request, kv_head), rows(k, kv_head) {}

  /// Null: it has no page.
  __device__ const Stored* row(std::int32_t position) const {
    const RowSlot slot = pages.slot(position);
    return slot.page < 0 ? nullptr : rows.row(slot);
  }
};

/// Makes landmarks with all kLandmarkThreads threads of a block. Groups of kLanes threads, one for
/// each piece of a row, take a chunk each.
template <Element T, int kHeadDim, typename Access>
class LandmarkBlock {
  static constexpr int kLaneElements = Access::kLaneBytes / static_cast<int>(sizeof(T));
  static constexpr int kLanes = kHeadDim / kLaneElements;
  static constexpr int kTileKeys = 64;
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();
  static constexpr float kQuietNaN = std::numeric_limits<float>::quiet_NaN();
  static constexpr std::uint16_t kNaNBits = [] {
    if constexpr (std::same_as<T, float>)
      return std::uint16_t{0};  // not asked for
    else
      return from_float<T>(kQuietNaN).bits;
  }();
  static_assert(kHeadDim % kLaneElements == 0 && kLanes <= kLandmarkThreads);
  static_assert(kTileKeys % Access::kKeysInFlight == 0);

 public:
  /// Chunks at once; more than 64 would not fit what a block may have of shared memory.
  static constexpr int kGroups = std::min(kLandmarkThreads / kLanes, 64);

  struct Shared {
    const T* keys[kGroups][kTileKeys];  ///< null: no page
    bool lacks_page[kGroups];
  };

  __device__ LandmarkBlock(const LandmarkParams<T>& params, Shared& shared)
      : params_(params),
        shared_(shared),
        group_(static_cast<int>(threadIdx.x) / kLanes),
        lane_(static_cast<int>(threadIdx.x) % kLanes) {}

  /// Of all complete chunks that meet the positions, finest level first. A landmark whose keys,
  /// children or place have no page is left as it is. Called by all threads.
  template <typename Keys>
  __device__ void make(const Keys& keys, int request, int kv_head,
                       const SpanPositions& positions) const {
    for (int i = 0; i < params_.num_levels; ++i) {
      const LandmarkTensor<T>& level = params_.levels[i];
      const std::int64_t first = positions.from >> params_.chunk_shifts[i];
      const std::int64_t end = min(positions.to >> params_.chunk_shifts[i], level.map.capacity());
      if (first >= end) return;  // and none above
      const LandmarkRows<T> rows(level, request, kv_head);
      for (std::int64_t number = first; number < end; number += kGroups) {
        if (i == 0) {
          summarise(keys, rows, number, end);
        } else {
          join(i, keys, LandmarkRows<T>(params_.levels[i - 1], request, kv_head), rows, number, end,
               positions.from);
        }
      }
      __syncthreads();  // children are written before they are joined
    }
  }

 private:
  /// What one thread holds of a row, as it lies in memory: elements taken apart as they arrive
  /// would need twice the registers.
  struct alignas(Access::kLaneBytes) Piece {
    std::uint32_t words[Access::kLaneBytes / 4];

    [[nodiscard]] __device__ T operator[](int e) const {
      if constexpr (std::same_as<T, float>) {
        return __uint_as_float(words[e]);
      } else {
        return {static_cast<std::uint16_t>(words[e / 2] >> (e % 2 * 16))};
      }
    }
    __device__ void set(int e, T value) {
      if constexpr (std::same_as<T, float>) {
        words[e] = __float_as_uint(value);
      } else {
        const std::uint32_t bits = value.bits;
        words[e / 2] = e % 2 == 0 ? bits : words[e / 2] | bits << 16;  // in ascending order
      }
    }
  };

  [[nodiscard]] __device__ Piece& piece_of(const T* row) const {
    // Landmarks are rows of a cache, which kernels of attention only read; here they are written.
    return *reinterpret_cast<Piece*>(const_cast<T*>(row) + lane_ * kLaneElements);
  }

  struct Sums {
    float sum[kLaneElements];
    float max[kLaneElements];
    float min[kLaneElements];

    __device__ Sums() {
#pragma unroll
      for (int e = 0; e < kLaneElements; ++e) {
        sum[e] = 0.f;
        max[e] = -kInfinity;
        min[e] = kInfinity;
      }
    }
    __device__ void add(const Piece& piece) {
#pragma unroll
      for (int e = 0; e < kLaneElements; ++e) {
        const float key = widen(piece[e]);
        sum[e] = __fadd_rn(sum[e], key);
        max[e] = max_or_nan(max[e], key);
        min[e] = min_or_nan(min[e], key);
      }
    }
  };

  /// Landmarks number to number + kGroups - 1 of the finest level, before `end`.
  template <typename Keys>
  __device__ void summarise(const Keys& keys, const LandmarkRows<T>& landmarks, std::int64_t number,
                            std::int64_t end) const {
    const int shift = params_.chunk_shifts[0];
    const std::int64_t chunk_size = std::int64_t{1} << shift;
    const bool has_chunk = group_ < kGroups && number + group_ < end;
    bool complete = has_chunk;
    Sums sums;
    for (std::int64_t tile = 0; tile < chunk_size; tile += kTileKeys) {
      const int tile_keys = static_cast<int>(min(chunk_size - tile, std::int64_t{kTileKeys}));
      __syncthreads();  // the tile before has been read
      for (int i = static_cast<int>(threadIdx.x); i < kGroups * kTileKeys; i += kLandmarkThreads) {
        const int group = i / kTileKeys;
        const int key = i % kTileKeys;
        if (number + group >= end || key >= tile_keys) continue;
        const std::int64_t position = ((number + group) << shift) + tile + key;
        shared_.keys[group][key] = keys.row(static_cast<std::int32_t>(position));
      }
      __syncthreads();
      if (has_chunk) add_tile(tile_keys, sums, complete);
    }
    if (!complete) return;
    const T* const hi = landmarks.find(static_cast<std::int32_t>(number + group_));
    if (!hi) return;
    const float reciprocal = 1.f / static_cast<float>(chunk_size);  // exact: a power of two
    Piece high;
    Piece low;
#pragma unroll
    for (int e = 0; e < kLaneElements; ++e) {
      const float mean = __fmul_rn(sums.sum[e], reciprocal);
      high.set(e, towards(sums.max[e], mean));
      low.set(e, towards(sums.min[e], mean));
    }
    piece_of(hi) = high;
    piece_of(hi + landmarks.lo_offset) = low;
  }

  __device__ void add_tile(int tile_keys, Sums& sums, bool& complete) const {
    for (int begin = 0; begin < tile_keys; begin += Access::kKeysInFlight) {
      Piece pieces[Access::kKeysInFlight];
#pragma unroll
      for (int i = 0; i < Access::kKeysInFlight; ++i) {
        if (begin + i >= tile_keys) continue;
        const T* const row = shared_.keys[group_][begin + i];
        complete &= row != nullptr;
        pieces[i] = row ? piece_of(row) : Piece{};
      }
#pragma unroll
      for (int i = 0; i < Access::kKeysInFlight; ++i) {
        if (begin + i < tile_keys) sums.add(pieces[i]);
      }
    }
  }

  /// The one NaN that landmarks have; conversions of the GPU give another.
  __device__ static T nan() {
    if constexpr (std::same_as<T, float>) {
      return kQuietNaN;
    } else {
      return {kNaNBits};
    }
  }

  [[nodiscard]] __device__ T towards(float extreme, float mean) const {
    const float value = __fmaf_rn(params_.spread, __fsub_rn(extreme, mean), mean);
    return value == value ? narrow<T>(value) : nan();
  }

  /// Landmarks number to number + kGroups - 1 of level i, before `end`, from those of the level
  /// below: the largest hi, the smallest lo. Children before position `from` were made by calls
  /// before this one.
  template <typename Keys>
  __device__ void join(int i, const Keys& keys, const LandmarkRows<T>& children,
                       const LandmarkRows<T>& landmarks, std::int64_t number, std::int64_t end,
                       std::int64_t from) const {
    const int shift = params_.chunk_shifts[i];
    const std::int64_t mine = number + group_;
    const bool has_chunk = group_ < kGroups && mine < end;
    __syncthreads();  // what the round before found has been read
    if (has_chunk && lane_ == 0) shared_.lacks_page[group_] = false;
    __syncthreads();
    if (has_chunk) {
      const std::int64_t first_key = max(mine << shift, from);
      const std::int64_t last_key = ((mine + 1) << shift) - 1;
      const std::int32_t last_column = keys.map.column(static_cast<std::int32_t>(last_key));
      for (std::int32_t column = keys.map.column(static_cast<std::int32_t>(first_key)) + lane_;
           column <= last_column; column += kLanes) {
        if (keys.pages.slot(column * keys.map.page_size).page < 0) {
          shared_.lacks_page[group_] = true;
        }
      }
    }
    __syncthreads();
    if (!has_chunk || shared_.lacks_page[group_]) return;
    const T* const hi = landmarks.find(static_cast<std::int32_t>(mine));
    if (!hi) return;

    const int child_shift = shift - params_.chunk_shifts[i - 1];
    const std::int64_t first_child = mine << child_shift;
    const std::int64_t num_children = std::int64_t{1} << child_shift;
    Piece largest{};
    Piece smallest{};
    for (std::int64_t child = 0; child < num_children; ++child) {
      if (first_child + child >= params_.levels[i - 1].map.capacity()) return;
      const T* const child_hi = children.find(static_cast<std::int32_t>(first_child + child));
      if (!child_hi) return;
      const Piece high = piece_of(child_hi);
      const Piece low = piece_of(child_hi + children.lo_offset);
      if (child == 0) {
        largest = high;
        smallest = low;
        continue;
      }
      Piece next_largest;
      Piece next_smallest;
#pragma unroll
      for (int e = 0; e < kLaneElements; ++e) {
        const bool is_larger = takes_place(widen(high[e]), widen(largest[e]));
        const bool is_smaller = takes_place(-widen(low[e]), -widen(smallest[e]));
        next_largest.set(e, is_larger ? high[e] : largest[e]);
        next_smallest.set(e, is_smaller ? low[e] : smallest[e]);
      }
      largest = next_largest;
      smallest = next_smallest;
    }
    piece_of(hi) = largest;
    piece_of(hi + landmarks.lo_offset) = smallest;
  }

  /// A NaN among children makes those above NaN.
  __device__ static bool takes_place(float b, float a) { return b > a || b != b; }

  const LandmarkParams<T>& params_;
  Shared& shared_;
  int group_;
  int lane_;
};

}  // namespace hip_attn::cuda
