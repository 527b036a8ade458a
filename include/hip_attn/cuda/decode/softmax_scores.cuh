/// From the row logits of a stage, in L2, to the scores that every thread block of a team selects
/// by (Reduction::kSoftmaxSum).
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/unit.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// The logits of four neighbouring rows for a tile: of chunks `lane` and `lane` + 32 of it.
struct LogitsOf4 {
  float lower[4];
  float upper[4];

  /// Past the last row, that of the last one; past the last chunk none. Written by other blocks of
  /// the team: past this multiprocessor's L1.
  __device__ static LogitsOf4 read(const RowLogits& logits, std::int32_t first_row,
                                   std::int32_t num_chunks, std::int32_t tile) {
    const std::int32_t chunk = tile * kSumTileChunks + static_cast<int>(threadIdx.x % 32);
    LogitsOf4 of;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const of_row = logits.at(min(first_row + i, logits.num_rows - 1), chunk);
      of.lower[i] = chunk < num_chunks ? __ldcg(of_row) : kNoLogit;
      of.upper[i] = chunk + 32 < num_chunks ? __ldcg(of_row + 32) : kNoLogit;
    }
    return of;
  }
};

/// tile_mass() of four rows at once, to the same bits: a warp waits for the shuffles of one.
__device__ inline void tile_masses_of_4(const LogitsOf4& logits, MassSum (&masses)[4]) {
  constexpr std::uint32_t kAll = 0xffffffffu;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    masses[i].max = warp_max(not_nan(fmaxf(logits.lower[i], logits.upper[i])));
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    masses[i].sum = __fadd_rn(mass_of(not_nan(logits.lower[i]), masses[i].max),
                              mass_of(not_nan(logits.upper[i]), masses[i].max));
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
#pragma unroll
    for (MassSum& mass : masses) {
      mass.sum = __fadd_rn(mass.sum, __shfl_xor_sync(kAll, mass.sum, distance));
    }
  }
#pragma unroll
  for (MassSum& mass : masses) {
    if (mass.max == kNoLogit) mass.sum = 0.f;
  }
}

/// row_weight() by one thread, to the same bits: of few rows, whose tiles are in shared memory.
__device__ inline RowWeight row_weight_of_thread(const MassSum* tiles, std::int32_t num_tiles) {
  float max = kNoLogit;
#pragma unroll 4
  for (std::int32_t tile = 0; tile < num_tiles; ++tile) max = fmaxf(max, tiles[tile].max);
  if (max == kNoLogit) return {kNoLogit, 0.f};
  float sum = 0.f;
#pragma unroll 4
  for (std::int32_t tile = 0; tile < num_tiles; ++tile) {
    sum = __fadd_rn(sum, __fmul_rn(tiles[tile].sum, mass_of(tiles[tile].max, max)));
  }
  return {max, __frcp_rn(sum)};
}

/// The scores of one stage. Where its row logits fit shared memory, each thread block makes all
/// sums for itself, so that the team meets no more. Otherwise each makes its share of the sums and
/// of the scores, and the team meets twice. The sums are the same to the last bit.
template <typename Traits, typename Team>
class SoftmaxScores {
 public:
  using Unit = DecodeUnit<Traits, Team>;

  /// All blocks have written down their logits, and met.
  __device__ SoftmaxScores(Unit& unit, const RowLogits& logits, std::int32_t num_chunks)
      : unit_(unit),
        logits_(logits),
        num_chunks_(num_chunks),
        num_tiles_(num_sum_tiles(num_chunks)),
        weights_(unit.shared.row_weights()) {}

  /// Makes the scores, in the memory of the slots. Returns where they are; null: in `scores`, which
  /// the team shares, in L2.
  __device__ const float* make(float* scores) {
    if (fits()) return sum_in_block();
    sum_in_team(scores);
    return nullptr;
  }

 private:
  /// Logits that one block sums up faster than a team that meets twice (2 us).
  static constexpr int kMostLogits = 32768;

  __device__ static int thread() { return decode_thread(); }

  // Shared memory from the weights on
  __device__ int masses_at() const {
    return kSelectBytes + row_weight_bytes(unit_.params.layout.max_rows);
  }
  __device__ int logits_at() const {
    return masses_at() +
           (logits_.num_rows * num_tiles_ * static_cast<int>(sizeof(MassSum)) + 15) / 16 * 16;
  }
  __device__ bool fits() const {
    const std::int64_t all = std::int64_t{logits_.num_rows} * (num_tiles_ * kSumTileChunks);
    return all <= kMostLogits && logits_at() + 4 * static_cast<int>(all) <=
                                     unit_.params.layout.slots * slot_bytes(Traits::kHeadDim);
  }

  /// Each lane keeps the logits of its own chunks.
  __device__ const float* sum_in_block() {
    auto* const masses = reinterpret_cast<MassSum*>(unit_.shared.slots + masses_at());
    auto* const logits = reinterpret_cast<float*>(unit_.shared.slots + logits_at());
    const std::int32_t stride = num_tiles_ * kSumTileChunks;
    const int warp = thread() / 32;
    const int lane = thread() % 32;
    std::int32_t tile = warp;
    std::int32_t row = 0;
    LogitsOf4 next;
    if (tile < num_tiles_) next = LogitsOf4::read(logits_, row, num_chunks_, tile);
#pragma unroll 1
    while (tile < num_tiles_) {
      const LogitsOf4 of_rows = next;
      const std::int32_t first = row;
      const std::int32_t at = tile;
      row += 4;
      if (row >= logits_.num_rows) {
        row = 0;
        tile += kDecodeWarps;
      }
      if (tile < num_tiles_) next = LogitsOf4::read(logits_, row, num_chunks_, tile);
      MassSum masses_of_rows[4];
      tile_masses_of_4(of_rows, masses_of_rows);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (first + i >= logits_.num_rows) break;
        float* const own = logits + (first + i) * stride + at * kSumTileChunks + lane;
        own[0] = of_rows.lower[i];
        own[32] = of_rows.upper[i];
        if (lane == 0) masses[(first + i) * num_tiles_ + at] = masses_of_rows[i];
      }
    }
    __syncthreads();
    for (std::int32_t of = thread(); of < logits_.num_rows; of += kDecodeThreads) {
      weights_[of] = row_weight_of_thread(masses + of * num_tiles_, num_tiles_);
    }
    __syncthreads();
    const RowLogits own{logits, stride, logits_.num_rows};
#pragma unroll 1
    for (std::int32_t at = warp; at < num_tiles_; at += kDecodeWarps) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Over the logit of the first row.
        const std::int32_t chunk = at * kSumTileChunks + half * 32 + lane;
        logits[chunk] = softmax_sum(own, weights_, chunk);
      }
    }
    __syncthreads();
    return logits;
  }

  /// The first of `count` things that block `rank` of the team takes.
  __device__ std::int32_t share(std::int32_t count, int rank) const {
    return static_cast<std::int32_t>(std::int64_t{count} * rank / unit_.team.size());
  }

  __device__ void sum_in_team(float* scores) {
    MassSum* const masses = unit_.tile_masses();
    const int rank = unit_.team.rank();
    make_tile_masses<kDecodeThreads>(logits_, num_chunks_, share(num_tiles_, rank),
                                     share(num_tiles_, rank + 1),
                                     [&](std::int32_t row, std::int32_t tile, const MassSum& mass) {
                                       masses[std::int64_t{row} * num_tiles_ + tile] = mass;
                                     });
    unit_.team.sync();
    make_row_weights<kDecodeThreads>(
        logits_.num_rows, num_tiles_,
        [&](std::int32_t row, std::int32_t tile) {
          // Written by other blocks of the team: past this multiprocessor's L1.
          const float2 mass = __ldcg(
              reinterpret_cast<const float2*>(masses + (std::int64_t{row} * num_tiles_ + tile)));
          return MassSum{mass.x, mass.y};
        },
        weights_);
    __syncthreads();
    make_softmax_sums<kDecodeThreads>(
        logits_, weights_, share(num_chunks_, rank), share(num_chunks_, rank + 1),
        [&](std::int32_t chunk, float score) { scores[chunk] = score; });
    unit_.team.sync();
  }

  Unit& unit_;
  RowLogits logits_;
  std::int32_t num_chunks_;
  std::int32_t num_tiles_;
  RowWeight* weights_;  ///< in shared memory
};

}  // namespace hip_attn::cuda
