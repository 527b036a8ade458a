/// Tile sizes of the Hopper attend kernel, and its shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/ptx/wgmma.cuh"
#include "hip_attn/cuda/rows/swizzled_tile.cuh"
#include "hip_attn/cuda/tuning.hpp"

namespace hip_attn::cuda::sm90 {

inline constexpr int kWarpgroupThreads = 128;
inline constexpr int kRowsPerTile = 64;  ///< of a product (wgmma m64)
inline constexpr int kKeysPerTile = 64;
inline constexpr int kProducerWarps = 4;
inline constexpr int kUnitsAhead = Sm90AttendTuning{}.units_ahead;

/// kWarpgroups consumer warpgroups, each with kTiles tiles of 64 query rows, and a producer
/// warpgroup share tiles of keys and values that pass through a ring of slots.
/// kRowWindows_: rows have windows of their own (PrefillParams::row_window). To ask so of every
/// tile costs dense attention 4 % (H200, 128k tokens: 275 for 265 ms), so other calls have kernels
/// without.
template <int kHeadDim, int kWarpgroups, int kTiles, bool kRowWindows_>
struct AttendPolicy {
  static constexpr bool kRowWindows = kRowWindows_;
  using QueryTile = SwizzledTile<kRowsPerTile, kHeadDim>;
  using KeyTile = SwizzledTile<kKeysPerTile, kHeadDim>;

  static constexpr int kThreads = (kWarpgroups + 1) * kWarpgroupThreads;
  static constexpr int kRows = kWarpgroups * kTiles * kRowsPerTile;
  static constexpr int kQueryBytes = kWarpgroups * kTiles * QueryTile::kBytes;
  static constexpr Sm90AttendTuning kTuning =
      kernel_tuning(kHeadDim).attend_sm90[kWarpgroups - 1][kTiles - 1];
  static constexpr int kBlocksPerMultiprocessor = kTuning.blocks_per_multiprocessor;
  /// Of the ring: what fits beside the queries.
  static constexpr int kSlotsThatFit = (kTuning.shared_kb * 1024 - kQueryBytes) / KeyTile::kBytes;
  static constexpr int kSlots =
      kSlotsThatFit < kTuning.most_slots ? kSlotsThatFit : kTuning.most_slots;
  /// Consumers hold the values of one tile while they wait for the keys of the next.
  static_assert(kSlots >= 3);
  static constexpr bool kShiftRegisters = kTuning.shift_registers;
  static constexpr int kConsumerRegisters = kTuning.consumer_registers;
  static constexpr int kProducerRegisters = kTuning.producer_registers;
};

/// What the producer tells the consumers of a unit.
struct UnitInfo {
  enum class Task : std::int32_t { kAttend, kFillZero, kFillNan, kEnd };
  Task task;
  std::int32_t request;
  std::int32_t kv_head;
  std::int64_t first_query;  ///< offset of the first row in q
  std::int32_t first_row;    ///< in out
  std::int32_t rows;         ///< query rows, each of `group` heads
  std::int32_t first;        ///< the thread block's first (row, head), of rows * group
  std::int32_t count;        ///< keys
  std::int32_t end;          ///< position after the last key
  /// The keys that the last row does not see because its window begins later; a row that stands n
  /// before it sees the last n of them. hidden_until <= 0: none.
  std::int32_t hidden_from;
  std::int32_t hidden_until;
};

template <typename Policy>
struct AttendShared {
  std::byte queries[Policy::kQueryBytes];
  std::byte slots[Policy::kSlots][Policy::KeyTile::kBytes];
  std::uint64_t slot_full[Policy::kSlots];
  std::uint64_t slot_empty[Policy::kSlots];
  std::uint64_t unit_full[kUnitsAhead];
  std::uint64_t unit_empty[kUnitsAhead];
  UnitInfo units[kUnitsAhead];
  /// Of values that not all rows see: the first key of the slot's tile that some must not.
  std::int32_t masked_from[Policy::kSlots];
  /// Bytes, one a producer warp: values from there on were infinite or NaN and are now 0.
  std::uint32_t not_finite[Policy::kSlots];
};

}  // namespace hip_attn::cuda::sm90
