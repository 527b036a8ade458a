/// The producer warps of the Hopper attend kernel: walk the units, gather keys and values.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/hopper/attend_policy.cuh"
#include "hip_attn/cuda/hopper/barrier.cuh"
#include "hip_attn/cuda/kv_rows.cuh"
#include "hip_attn/cuda/mma.cuh"
#include "hip_attn/cuda/prefill_unit.cuh"

namespace hip_attn::cuda::hopper {

/// The order of units: KV heads one after the other, so that the blocks at work share one head's
/// keys in L2; within a head the last query blocks first, which attend to most. Every other round
/// goes backwards, so that no block gets the longer unit each time.
class UnitSchedule {
 public:
  template <typename T>
  __device__ UnitSchedule(const PrefillParams<T>& params, int tiles)
      : rows_(params.selection_rows),
        tiles_(tiles),
        units_(static_cast<std::uint32_t>(rows_) * tiles * params.num_kv_heads) {}

  struct Unit {
    std::int32_t kv_head;
    std::int32_t selection_row;
    std::int32_t tile;
  };

  /// False after the last one.
  __device__ bool next(Unit& unit) {
    for (;;) {
      const std::uint32_t first = round_ * gridDim.x;
      if (first >= units_) return false;
      const std::uint32_t at = first + (round_ % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
      ++round_;
      if (at >= units_) continue;
      const std::uint32_t per_head = static_cast<std::uint32_t>(rows_) * tiles_;
      unit.kv_head = static_cast<std::int32_t>(at / per_head);
      unit.selection_row = rows_ - 1 - static_cast<std::int32_t>(at % per_head / tiles_);
      unit.tile = static_cast<std::int32_t>(at % tiles_);
      return true;
    }
  }

 private:
  std::int32_t rows_;
  std::int32_t tiles_;
  std::uint32_t units_;
  std::uint32_t round_ = 0;
};

/// One of the warps: it copies 16 rows of every tile, and warp 0 also announces the units.
template <typename T, int kHeadDim, typename Policy>
class AttendProducer {
 public:
  using Shared = AttendShared<Policy>;

  __device__ AttendProducer(const PrefillParams<T>& params, Shared& shared)
      : params_(params),
        shared_(shared),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32 % kProducerWarps) {}

  __device__ void run() {
    const int tiles = (params_.block_q * params_.group + Policy::kRows - 1) / Policy::kRows;
    UnitSchedule schedule(params_, tiles);
    UnitSchedule::Unit unit;
    while (schedule.next(unit)) {
      const QueryBlock block = find_query_block(params_, unit.selection_row);
      const int first = unit.tile * Policy::kRows;
      if (block.kind == QueryBlock::Kind::kNone || first >= block.rows * params_.group) continue;
      UnitInfo info{UnitInfo::Task::kFillNan,
                    block.request,
                    unit.kv_head,
                    block.first_row,
                    block.rows,
                    first,
                    0,
                    0};
      if (block.kind == QueryBlock::Kind::kPadding) info.task = UnitInfo::Task::kFillZero;
      AttendedKeys keys{};
      if (block.kind == QueryBlock::Kind::kAttend) {
        keys = unit_keys(params_, block, unit.selection_row, unit.kv_head);
        if (keys.num_blocks >= 0) {
          info.task = UnitInfo::Task::kAttend;
          info.count = keys.count();
          info.end = keys.end;
        }
      }
      announce(info);
      if (info.count > 0 && unit.tile == 0 && warp_ == 0) count_attended(params_, block, keys);
      gather(keys, info);
    }
    announce({UnitInfo::Task::kEnd});
    finish_copies();
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kPieces = kHeadDim / 8;       // of 16 bytes in a row
  static constexpr int kRowsPerCopy = 32 / kPieces;  // that the warp copies at once
  static constexpr int kWarpRows = kKeysPerTile / kProducerWarps;
  static constexpr std::uint64_t kNoPage = 1;  // an address that is none

  /// Hands a unit to the consumers. They may still need what has been copied so far to finish the
  /// unit whose place this one takes.
  __device__ void announce(const UnitInfo& info) {
    if (warp_ != 0) return;
    std::uint64_t& empty = shared_.unit_empty[unit_.slot];
    if (!has_passed(empty, unit_.lap ^ 1u)) {
      finish_copies();
      wait(empty, unit_.lap ^ 1u);
    }
    if (lane_ == 0) {
      shared_.units[unit_.slot] = info;
      arrive(shared_.unit_full[unit_.slot]);
    }
    unit_.advance();
  }

  /// Where the key and value of a lane's row lie, row lane % 16 of the warp's; 0: nothing to read.
  struct Place {
    std::uint64_t key;
    std::uint64_t value;
  };

  __device__ Place locate(const KvRows<T>& kv, std::int32_t position) const {
    if (position < 0) return {0, 0};
    const auto slot = kv.slot(position);
    if (slot.page < 0) return {kNoPage, 0};
    return {reinterpret_cast<std::uint64_t>(kv.key(slot)),
            reinterpret_cast<std::uint64_t>(kv.value(slot))};
  }

  /// All tiles of a unit. Positions are looked up two tiles ahead and addresses one, so that the
  /// selection and the block table arrive while earlier tiles are copied.
  __device__ void gather(const AttendedKeys& keys, const UnitInfo& info) {
    const KvRows<T> kv(params_.kv, info.request, info.kv_head);
    const std::int32_t row = warp_ * kWarpRows + lane_ % kWarpRows;
    const auto position = [&](std::int32_t first) {
      return first + row < info.count ? keys.position(first + row) : -1;
    };
    const std::int32_t first_masked = info.count - (info.rows - 1);
    Place place = locate(kv, position(0));
    std::int32_t next_position = position(kKeysPerTile);
#pragma unroll 1
    for (std::int32_t first = 0; first < info.count; first += kKeysPerTile) {
      const Place next = locate(kv, next_position);
      next_position = position(first + 2 * kKeysPerTile);
      const std::int32_t masked_from = min(max(first_masked - first, 0), kKeysPerTile);
      copy<true>(place.key, kKeysPerTile);
      copy<false>(place.value, masked_from);
      place = next;
    }
  }

  /// Starts copying a tile into the next slot, and passes on the oldest one under way.
  template <bool kKeys>
  __device__ void copy(std::uint64_t row_address, std::int32_t masked_from) {
    wait(shared_.slot_empty[next_.slot], next_.lap ^ 1u);
    if (lane_ == 0) shared_.masked_from[next_.slot][warp_] = masked_from;
    const std::uint32_t tile = shared_address(shared_.slots[next_.slot]);
    const int piece = lane_ % kPieces;
#pragma unroll
    for (int i = 0; i < kWarpRows / kRowsPerCopy; ++i) {
      const int row = i * kRowsPerCopy + lane_ / kPieces;
      const std::uint64_t from = __shfl_sync(kAll, row_address, row);
      const std::uint32_t to = tile + Policy::KeyTile::offset(warp_ * kWarpRows + row, piece);
      if (kKeys && from == kNoPage) {  // rows that see this key become NaN
        asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0x7fff7fffu)
                     : "memory");
        continue;
      }
      const bool valid = from != 0;
      const T* source = valid ? reinterpret_cast<const T*>(from) + piece * 8 : params_.q;
      copy_async_16(to, source, valid);
    }
    commit_copies();
    next_.advance();
    ++copying_;
    if (copying_ > Policy::kCopiesAhead) {
      wait_for_groups<Policy::kCopiesAhead>();
      pass_on();
    }
  }

  __device__ void finish_copies() {
    wait_for_copies();
    while (copying_ > 0) pass_on();
  }

  /// The oldest copied tile goes to the consumers.
  __device__ void pass_on() {
    __syncwarp();
    const std::int32_t masked_from = shared_.masked_from[done_.slot][warp_];
    if (masked_from < kKeysPerTile) clear_not_finite(masked_from);
    fence_for_tensor_cores();
    arrive(shared_.slot_full[done_.slot]);
    done_.advance();
    --copying_;
  }

  /// Values that only some rows may see take part in the product of all rows with probability 0,
  /// and 0 times infinity is NaN: those that are not finite become 0 here, and the consumers add
  /// them to the rows that see them.
  __device__ void clear_not_finite(std::int32_t masked_from) {
    bool found = false;
#pragma unroll 1
    for (int i = 0; i < kWarpRows / kRowsPerCopy; ++i) {
      const int row = warp_ * kWarpRows + i * kRowsPerCopy + lane_ / kPieces;
      if (row < masked_from) continue;
      auto* elements = reinterpret_cast<T*>(  // that this lane copied
          shared_.slots[done_.slot] + Policy::KeyTile::offset(row, lane_ % kPieces));
#pragma unroll 1
      for (int j = 0; j < 8; ++j) {
        if (isfinite(widen(elements[j]))) continue;
        elements[j] = T{0};
        found = true;
      }
    }
    found = __any_sync(kAll, found);
    if (lane_ == 0) {
      reinterpret_cast<unsigned char*>(&shared_.not_finite[done_.slot])[warp_] = found;
    }
    __syncwarp();
  }

  const PrefillParams<T>& params_;
  Shared& shared_;
  int lane_;
  int warp_;
  RingPosition<Policy::kSlots> next_;  ///< slot that is filled next
  RingPosition<Policy::kSlots> done_;  ///< oldest slot that the consumers do not have yet
  int copying_ = 0;                    ///< slots between them
  RingPosition<kUnitsAhead> unit_;
};

}  // namespace hip_attn::cuda::hopper
