/// How a warp fills its part of the tiles of a dense scan (dense_scan.cuh): it looks up the rows of
/// a round of steps at once, notes where they lie, and starts the copies of one step after the
/// other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/ptx/register.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/swizzled_tile.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"
#include "hip_attn/cuda/search/dense_masses.cuh"
#include "hip_attn/cuda/search/dense_sources.cuh"

namespace hip_attn::cuda {

/// Tiles of a ring.
inline constexpr int kDenseSlots = 3;
/// Steps whose copies are on their way.
inline constexpr int kDenseStepsAhead = kDenseSlots - 1;

/// What a warpgroup notes of the rows that it copies, in shared memory.
struct alignas(16) DenseNotes {
  unsigned long long addresses[4][32];  ///< [warp][step, item], of the steps of a round
  std::uint32_t present[2][4];          ///< [round % 2][warp], a bit each: which of them are there
};

/// The rows of one warp, one of four.
template <typename Traits, typename Source>
class DenseCopies {
 public:
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Tile = sm90::SwizzledTile<kDenseRows, kHeadDim>;
  /// Steps whose rows a warp looks up at once. Notes of two rounds are enough: a round is noted
  /// after the barrier of a step of the one before, when all are done with that before it.
  static constexpr int kRound = 32 / Source::kItems;
  static_assert(kRound >= kDenseStepsAhead);

  /// ring: kDenseSlots tiles.
  __device__ DenseCopies(const Source& source, std::uint32_t lane, int warp, std::uint32_t ring,
                         DenseNotes& notes)
      : source_(source),
        lane_(lane),
        warp_(warp),
        to_(ring + Tile::offset(lane / 16 * (kDenseRows / 2) + 2 * warp + lane / 8 % 2, lane % 8)),
        notes_(notes) {}

  /// Asks for the page of this lane's item of a step.
  __device__ void look_up(std::int32_t step) {
    place_ = source_.look_up(step, warp_, lane() % Source::kItems);
  }

  /// Waits for the page that was looked up, and notes where the lane's item lies, of the round
  /// from step i on.
  __device__ void note_addresses(std::int32_t i) {
    const Stored* const address = source_.address(place_);
    const std::uint32_t present = __ballot_sync(kAll, address != nullptr);
    if (lane() == 0) notes_.present[i / kRound % 2][warp_] = present;
    __syncwarp();  // the addresses before have been read
    store_shared_8(shared_address(&notes_.addresses[warp_][lane()]),
                   address ? address : source_.fallback());
    __syncwarp();
  }

  /// Starts to copy the rows of step i, which is noted, to a slot.
  __device__ void start(int slot, std::int32_t i) {
    const int quarter = lane() / 8;
    const int d = lane() % 8 * 8;
    const Stored* rows[kDensePasses];
    source_.rows(shared_address(&notes_.addresses[warp_][first_item(i)]), quarter, d, rows);
    const std::uint32_t to = to_ + slot * Tile::kBytes;
#pragma unroll
    for (int pass = 0; pass < kDensePasses; ++pass) {
#pragma unroll
      for (int block = 0; block < kHeadDim; block += 64) {
        if (kHeadDim % 64 != 0 && block + d >= kHeadDim) continue;
        Loader::copy(to + pass * 8 * 128 + block / 64 * Tile::kBlockBytes, rows[pass] + block);
      }
    }
  }

  /// Which items of step i this lane's products come from, by Source::item_of: column 8 j + 2 t + b
  /// is that row of the tile, which warp t copied.
  __device__ std::uint32_t present_columns(std::int32_t i) const {
    const uint4 of_warps = present_of(i);
    const int t = lane() % 4;
    const std::uint32_t of_warp =
        t < 2 ? (t == 0 ? of_warps.x : of_warps.y) : (t == 2 ? of_warps.z : of_warps.w);
    return of_warp >> first_item(i);
  }
  __device__ bool all_present(std::int32_t i) const {
    const uint4 present = present_of(i);
    const std::uint32_t all = present.x & present.y & present.z & present.w;
    return (all >> first_item(i) & kAllItems) == kAllItems;
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr std::uint32_t kAllItems = (1u << Source::kItems) - 1;

  /// What follows from it is found anew where it is needed: kept in registers, it would spill.
  __device__ int lane() const { return static_cast<int>(in_register(lane_) % 32u); }

  /// Of step i, among those of its round.
  __device__ static int first_item(std::int32_t i) { return i % kRound * Source::kItems; }

  /// [warp] which items of the round of step i are there.
  __device__ uint4 present_of(std::int32_t i) const {
    return load_shared_16(shared_address(notes_.present[i / kRound % 2]));
  }

  const Source& source_;
  std::uint32_t lane_;
  int warp_;
  std::uint32_t to_;  ///< in the first tile, this lane's piece in the first pass
  DenseNotes& notes_;
  DensePlace place_;  ///< of this lane's item, of the round after that noted
};

}  // namespace hip_attn::cuda
