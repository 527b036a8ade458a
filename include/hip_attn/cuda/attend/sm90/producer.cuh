/// The producer warps of the Hopper attend kernel: walk the units, gather keys and values.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attend/sm90/policy.cuh"
#include "hip_attn/cuda/attend/unit_keys.cuh"
#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"

namespace hip_attn::cuda::sm90 {

/// The order of units: a few KV heads at a time, so that the blocks at work share keys in L2;
/// within these the last query blocks first, which attend to most. Every other round goes
/// backwards, so that no block gets the longer unit each time.
class UnitSchedule {
 public:
  template <typename Stored>
  __device__ UnitSchedule(const PrefillParams<Stored>& params, int tiles)
      : rows_(rows_with_query_blocks(params)),
        tiles_(tiles),
        heads_(params.num_kv_heads),
        heads_at_once_(params.heads_at_once),
        units_(static_cast<std::uint32_t>(rows_) * tiles * heads_) {}

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
      const std::uint32_t first_head = at / (per_head * heads_at_once_) * heads_at_once_;
      const std::uint32_t heads = min(heads_at_once_, heads_ - first_head);
      const std::uint32_t within = at - first_head * per_head;
      unit.tile = static_cast<std::int32_t>(within % tiles_);
      unit.kv_head = static_cast<std::int32_t>(first_head + within / tiles_ % heads);
      unit.selection_row = rows_ - 1 - static_cast<std::int32_t>(within / (tiles_ * heads));
      return true;
    }
  }

 private:
  std::int32_t rows_;
  std::uint32_t tiles_;
  std::uint32_t heads_;
  std::uint32_t heads_at_once_;
  std::uint32_t units_;
  std::uint32_t round_ = 0;
};

/// One of the warps: it copies 16 rows of every tile, and warp 0 also announces the units.
template <typename Traits, typename Policy>
class AttendProducer {
 public:
  using Element = typename Traits::Element;
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  using Params = PrefillParams<Stored>;
  using Shared = AttendShared<Policy>;

  __device__ AttendProducer(const Params& params, Shared& shared)
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
                    block.first_query(params_.tensors.q),
                    block.first_row,
                    block.rows,
                    first,
                    0,
                    0,
                    0,
                    0};
      if (block.kind == QueryBlock::Kind::kPadding) info.task = UnitInfo::Task::kFillZero;
      AttendedKeys keys{};
      if (block.kind == QueryBlock::Kind::kAttend) {
        keys = unit_keys<Policy::kRowWindows>(params_, block, unit.selection_row, unit.kv_head);
        if (keys.num_blocks >= 0) {
          info.task = UnitInfo::Task::kAttend;
          info.count = keys.count();
          info.end = keys.end;
          if constexpr (Policy::kRowWindows) {
            info.hidden_from = keys.before_window();
            info.hidden_until = info.count - params_.search.row_window;
          }
        }
      }
      announce(info);
      if (info.count > 0 && unit.tile == 0 && warp_ == 0)
        count_attended<Policy::kRowWindows>(params_, block, keys);
      gather(keys, info);
    }
    announce({UnitInfo::Task::kEnd});
    wait_for_copies();
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kRows = kKeysPerTile / kProducerWarps;  ///< of a tile, that this warp copies
  /// A lane copies every fourth piece of two rows, eight apart: neighbouring lanes read 64 bytes of
  /// a row together, and all addresses are one per row plus constants.
  static constexpr int kRowsPerLane = 2;
  static constexpr int kPiecesPerLane = Traits::kHeadDim / 8 / 4;
  static_assert(kRows == 16);

  __device__ int row_of_tile(int i) const { return warp_ * kRows + i * 8 + lane_ / 4; }
  /// Where piece lane % 4 + 4 j of a row of this lane lies in a tile.
  __device__ std::uint32_t offset_in_tile(int i, int j) const {
    return Policy::KeyTile::offset(row_of_tile(i), lane_ % 4 + 4 * j);
  }

  /// Hands a unit to the consumers.
  __device__ void announce(const UnitInfo& info) {
    if (warp_ != 0) return;
    wait(shared_.unit_empty[unit_.slot], unit_.lap ^ 1u);
    if (lane_ == 0) {
      shared_.units[unit_.slot] = info;
      arrive(shared_.unit_full[unit_.slot]);
    }
    unit_.advance();
  }

  /// All tiles of a unit. Positions are looked up two tiles ahead and pages one, so that the
  /// selection and the block table arrive while earlier tiles are copied. Rows after the last key
  /// repeat it: no query row sees them.
  __device__ void gather(const AttendedKeys& keys, const UnitInfo& info) {
    const KvRows<Stored> kv(params_.tensors.kv, info.request, info.kv_head);
    const std::int32_t first_masked = info.count - (info.rows - 1);
    std::int32_t positions[3][kRowsPerLane];  // of this tile and the next two
    std::int32_t pages[2][kRowsPerLane];
    const auto find_positions = [&](std::int32_t first, std::int32_t(&found)[kRowsPerLane]) {
#pragma unroll
      for (int i = 0; i < kRowsPerLane; ++i) {
        found[i] = keys.position(min(first + row_of_tile(i), info.count - 1));
      }
    };
    if (info.count == 0) return;
    find_positions(0, positions[0]);
    find_positions(kKeysPerTile, positions[1]);
#pragma unroll
    for (int i = 0; i < kRowsPerLane; ++i) pages[0][i] = kv.pages.page(positions[0][i]);
#pragma unroll 1
    for (std::int32_t first = 0; first < info.count; first += kKeysPerTile) {
#pragma unroll
      for (int i = 0; i < kRowsPerLane; ++i) pages[1][i] = kv.pages.page(positions[1][i]);
      find_positions(first + 2 * kKeysPerTile, positions[2]);
      copy<true>(kv, positions[0], pages[0], kKeysPerTile);
      std::int32_t masked_from = min(max(first_masked - first, 0), kKeysPerTile);
      if constexpr (Policy::kRowWindows) {
        if (first < info.hidden_until) {
          masked_from = min(masked_from, max(info.hidden_from - first, 0));
        }
      }
      copy<false>(kv, positions[0], pages[0], masked_from);
#pragma unroll
      for (int i = 0; i < kRowsPerLane; ++i) {
        positions[0][i] = positions[1][i];
        positions[1][i] = positions[2][i];
        pages[0][i] = pages[1][i];
      }
    }
  }

  /// Starts to copy a tile of keys or values into the next slot, which is the consumers' as soon as
  /// the copies of all lanes have arrived.
  template <bool kKeys>
  __device__ void copy(const KvRows<Stored>& kv, const std::int32_t (&positions)[kRowsPerLane],
                       const std::int32_t (&pages)[kRowsPerLane], std::int32_t masked_from) {
    wait(shared_.slot_empty[next_.slot], next_.lap ^ 1u);
    const std::uint32_t tile = shared_address(shared_.slots[next_.slot]);
    bool stores = !Loader::kCopiesAsync;
#pragma unroll
    for (int i = 0; i < kRowsPerLane; ++i) {
      const RowSlot slot = kv.pages.slot(positions[i], pages[i]);
      if (slot.page < 0) {
        // No such page: a key of NaN makes the rows that see it NaN.
        const std::uint32_t word = kKeys ? 0x7fff7fffu : 0u;
#pragma unroll
        for (int j = 0; j < kPiecesPerLane; ++j) {
          asm volatile(
              "st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(tile + offset_in_tile(i, j)),
              "r"(word)
              : "memory");
        }
        stores = true;
        continue;
      }
      const Stored* const row = (kKeys ? kv.keys : kv.values).row(slot) + lane_ % 4 * 8;
#pragma unroll
      for (int j = 0; j < kPiecesPerLane; ++j) {
        Loader::copy(tile + offset_in_tile(i, j), row + j * 32);
      }
    }
    if (stores || (!kKeys && masked_from < kKeysPerTile)) [[unlikely]] {
      hand_over(masked_from);
    } else {
      arrive_after_copies(shared_address(&shared_.slot_full[next_.slot]));
    }
    next_.advance();
  }

  /// Waits for this lane's copies and hands them over with what it has stored besides.
  __device__ void hand_over(std::int32_t masked_from) {
    wait_for_copies();
    if (masked_from < kKeysPerTile) clear_not_finite(masked_from);
    fence_for_tensor_cores();
    arrive(shared_.slot_full[next_.slot]);
  }

  /// Values that only some rows may see take part in the product of all rows with probability 0,
  /// and 0 times infinity is NaN: those that are not finite become 0 here, and the consumers add
  /// them to the rows that see them.
  __device__ void clear_not_finite(std::int32_t masked_from) {
    bool found = false;
#pragma unroll 1
    for (int i = 0; i < kRowsPerLane; ++i) {
      if (row_of_tile(i) < masked_from) continue;
#pragma unroll 1
      for (int j = 0; j < kPiecesPerLane; ++j) {
        auto* const piece = reinterpret_cast<uint4*>(  // that this lane copied
            shared_.slots[next_.slot] + offset_in_tile(i, j));
        const uint4 values = *piece;
        const uint4 not_finite = {
            not_finite_bits<Element>(values.x), not_finite_bits<Element>(values.y),
            not_finite_bits<Element>(values.z), not_finite_bits<Element>(values.w)};
        if ((not_finite.x | not_finite.y | not_finite.z | not_finite.w) == 0) continue;
        *piece = {values.x & ~not_finite.x, values.y & ~not_finite.y, values.z & ~not_finite.z,
                  values.w & ~not_finite.w};
        found = true;
      }
    }
    found = __any_sync(kAll, found);
    if (lane_ == 0) {
      reinterpret_cast<unsigned char*>(&shared_.not_finite[next_.slot])[warp_] = found;
      if (warp_ == 0) shared_.masked_from[next_.slot] = masked_from;
    }
    __syncwarp();
  }

  const Params& params_;
  Shared& shared_;
  int lane_;
  int warp_;
  RingPosition<Policy::kSlots> next_;  ///< slot that is filled next
  RingPosition<kUnitsAhead> unit_;
};

}  // namespace hip_attn::cuda::sm90
