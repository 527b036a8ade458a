/// From the row logits of a stage, in L2, to the scores that every thread block of a team selects
/// by (Reduction::kSoftmaxSum).
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/unit.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// tile_mass() of four neighbouring rows at once, to the same bits: a warp waits for the shuffles
/// of one. masses[i] of rows that are none: anything.
__device__ inline void tile_masses_of_4(const RowLogits& logits, std::int32_t first_row,
                                        std::int32_t num_chunks, std::int32_t tile,
                                        MassSum (&masses)[4]) {
  constexpr std::uint32_t kAll = 0xffffffffu;
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const std::int32_t chunk = tile * kSumTileChunks + lane;
  float lower[4];
  float upper[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::int32_t row = min(first_row + i, logits.num_rows - 1);
    lower[i] = chunk < num_chunks ? not_nan(*logits.at(row, chunk)) : kNoLogit;
    upper[i] = chunk + 32 < num_chunks ? not_nan(*logits.at(row, chunk + 32)) : kNoLogit;
    masses[i].max = fmaxf(lower[i], upper[i]);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
#pragma unroll
    for (MassSum& mass : masses) {
      mass.max = fmaxf(mass.max, __shfl_xor_sync(kAll, mass.max, distance));
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    masses[i].sum = __fadd_rn(mass_of(lower[i], masses[i].max), mass_of(upper[i], masses[i].max));
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

/// The scores of one stage. Where its row logits fit, each thread block takes all of them into
/// shared memory and makes all sums for itself, so that the team meets no more. Otherwise each
/// makes its share of the sums and of the scores, and the team meets twice. The sums are the same
/// to the last bit.
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

  /// Of a row in shared memory.
  __device__ std::int32_t shared_stride() const { return (num_chunks_ + 3) / 4 * 4; }

  // Shared memory from the weights on
  __device__ int masses_at() const {
    return kSelectBytes + row_weight_bytes(unit_.params.layout.max_rows);
  }
  __device__ int logits_at() const {
    return masses_at() +
           (logits_.num_rows * num_tiles_ * static_cast<int>(sizeof(MassSum)) + 15) / 16 * 16;
  }
  __device__ bool fits() const {
    const std::int64_t all = std::int64_t{logits_.num_rows} * shared_stride();
    return all <= kMostLogits && logits_at() + 4 * static_cast<int>(all) <=
                                     unit_.params.layout.slots * slot_bytes(Traits::kHeadDim);
  }

  __device__ const float* sum_in_block() {
    auto* const masses = reinterpret_cast<MassSum*>(unit_.shared.slots + masses_at());
    auto* const logits = reinterpret_cast<float*>(unit_.shared.slots + logits_at());
    const std::int32_t stride = shared_stride();
#pragma unroll 1
    for (std::int32_t row = 0; row < logits_.num_rows; ++row) {
#pragma unroll 1
      for (std::int32_t chunk = thread() * 4; chunk < num_chunks_; chunk += kDecodeThreads * 4) {
        copy_async_part(shared_address(logits + row * stride + chunk), logits_.at(row, chunk),
                        min(num_chunks_ - chunk, 4) * static_cast<int>(sizeof(float)));
      }
    }
    logits_.logits = logits;
    logits_.stride = stride;
    commit_copies();
    wait_for_copies();
    __syncthreads();

    const int lane = thread() % 32;
#pragma unroll 1
    for (std::int32_t tile = thread() / 32; tile < num_tiles_; tile += kDecodeWarps) {
#pragma unroll 1
      for (std::int32_t row = 0; row < logits_.num_rows; row += 4) {
        MassSum of_rows[4];
        tile_masses_of_4(logits_, row, num_chunks_, tile, of_rows);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (lane == 0 && row + i < logits_.num_rows)
            masses[(row + i) * num_tiles_ + tile] = of_rows[i];
        }
      }
    }
    __syncthreads();
    make_row_weights<kDecodeThreads>(
        logits_.num_rows, num_tiles_,
        [&](std::int32_t row, std::int32_t tile) { return masses[row * num_tiles_ + tile]; },
        weights_);
    __syncthreads();
    // Over the logits of the first row, each by the thread that has read all of the chunk.
    make_softmax_sums<kDecodeThreads>(
        logits_, weights_, 0, num_chunks_,
        [&](std::int32_t chunk, float score) { logits[chunk] = score; });
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
