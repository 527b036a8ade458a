/// The reduction to softmax sums (docs/guide/algorithm.md, "From rows to a score"): from the logits
/// of all rows for all chunks of a stage to the attention mass that the rows give each chunk.
///
/// It is done in three steps, each of which several thread blocks can share: what each tile of 64
/// chunks adds up to for each row, what each row adds up to, and the scores. Sums are taken in an
/// order that follows from the numbers of rows and chunks alone, so that scores are the same to the
/// last bit whatever the number of warps and thread blocks. Logits are in units of log 2. NaN
/// counts as -inf.
#pragma once

#include <cstdint>

#include "hip_attn/core/host_device.hpp"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"

namespace hip_attn::cuda {

/// Chunks of a tile: tile t is those from 64 t on.
inline constexpr int kSumTileChunks = 64;

HIP_ATTN_HOST_DEVICE constexpr std::int32_t num_sum_tiles(std::int32_t num_chunks) {
  return num_chunks / kSumTileChunks + (num_chunks % kSumTileChunks != 0);
}

/// What the chunks of a tile, or of more, add up to for one row: sum * 2^max, sum 0 where max is
/// -inf.
struct MassSum {
  float max;
  float sum;
};

/// Of one row: a chunk's share of the row's mass is 2^(logit - max) * weight, weight 0 where no
/// chunk has any.
struct RowWeight {
  float max;
  float weight;
};

/// 2^(logit - max), 1 where they are equal, which infinities can be. logit is not NaN.
__device__ inline float mass_of(float logit, float max) {
  return logit == max ? 1.f : exp2_fast(logit - max);
}

// ---- Of one warp, or one thread -----------------------------------------------------------------

/// Of a tile of one row, whose logits of all chunks begin at `logits`. Called by a whole warp,
/// which gets it in every lane.
__device__ inline MassSum tile_mass(const float* logits, std::int32_t num_chunks,
                                    std::int32_t tile) {
  constexpr std::uint32_t kAll = 0xffffffffu;
  const std::int32_t left = num_chunks - tile * kSumTileChunks;  // chunks from the tile on
  const auto lane = static_cast<int>(threadIdx.x % 32);
  logits += std::int64_t{tile} * kSumTileChunks;
  const float lower = lane < left ? not_nan(logits[lane]) : kNoLogit;
  const float upper = lane + 32 < left ? not_nan(logits[lane + 32]) : kNoLogit;
  const float max = warp_max(fmaxf(lower, upper));
  if (max == kNoLogit) return {kNoLogit, 0.f};
  float sum = __fadd_rn(mass_of(lower, max), mass_of(upper, max));
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    sum = __fadd_rn(sum, __shfl_xor_sync(kAll, sum, distance));
  }
  return {max, sum};
}

/// From the tiles of a row: tile_at(tile) is the MassSum of one. Called by a whole warp, which gets
/// it in every lane.
template <typename TileAt>
__device__ RowWeight row_weight(std::int32_t num_tiles, TileAt&& tile_at) {
  constexpr std::uint32_t kAll = 0xffffffffu;
  const auto lane = static_cast<int>(threadIdx.x % 32);
  float max = kNoLogit;
  for (std::int32_t tile = lane; tile < num_tiles; tile += 32) max = fmaxf(max, tile_at(tile).max);
  max = warp_max(max);
  if (max == kNoLogit) return {kNoLogit, 0.f};
  float sum = 0.f;
#pragma unroll 1
  for (std::int32_t first = 0; first < num_tiles; first += 32) {
    float mass = 0.f;
    if (first + lane < num_tiles) {
      const MassSum of_tile = tile_at(first + lane);
      mass = __fmul_rn(of_tile.sum, mass_of(of_tile.max, max));
    }
    // Eight at once hide most of a shuffle's latency, in little code. Adding 0 changes nothing.
#pragma unroll 1
    for (int i = 0; i < 32 && first + i < num_tiles; i += 8) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sum = __fadd_rn(sum, __shfl_sync(kAll, mass, i + j));
    }
  }
  return {max, __frcp_rn(sum)};
}

/// The score of a chunk: what all rows give it. weights: [num_rows].
__device__ inline float softmax_sum(const RowLogits& logits, const RowWeight* weights,
                                    std::int32_t chunk) {
  float score = 0.f;
#pragma unroll 4
  for (std::int32_t row = 0; row < logits.num_rows; ++row) {
    const RowWeight of_row = weights[row];
    score = __fmaf_rn(mass_of(not_nan(*logits.at(row, chunk)), of_row.max), of_row.weight, score);
  }
  return score;
}

// ---- Of a thread block --------------------------------------------------------------------------
// Called by all kThreads of it. No function waits for other threads at its start or end.

/// put(row, tile, MassSum), by one thread each, for every row and the tiles [first_tile, end_tile).
template <int kThreads, typename Put>
__device__ void make_tile_masses(const RowLogits& logits, std::int32_t num_chunks,
                                 std::int32_t first_tile, std::int32_t end_tile, Put&& put) {
  std::int32_t tile = first_tile;
  auto row = static_cast<std::int32_t>(threadIdx.x) / 32;
#pragma unroll 1
  for (;; row += kThreads / 32) {
    for (; row >= logits.num_rows; row -= logits.num_rows) ++tile;
    if (tile >= end_tile) return;
    const MassSum mass = tile_mass(logits.at(row, 0), num_chunks, tile);
    if (threadIdx.x % 32 == 0) put(row, tile, mass);
  }
}

/// weights[row] of every row. tile_at(row, tile) is what make_tile_masses put.
template <int kThreads, typename TileAt>
__device__ void make_row_weights(std::int32_t num_rows, std::int32_t num_tiles, TileAt&& tile_at,
                                 RowWeight* weights) {
#pragma unroll 1
  for (std::int32_t row = static_cast<std::int32_t>(threadIdx.x) / 32; row < num_rows;
       row += kThreads / 32) {
    const RowWeight weight =
        row_weight(num_tiles, [&](std::int32_t tile) { return tile_at(row, tile); });
    if (threadIdx.x % 32 == 0) weights[row] = weight;
  }
}

/// put(chunk, score), by one thread each, for the chunks [first, end).
template <int kThreads, typename Put>
__device__ void make_softmax_sums(const RowLogits& logits, const RowWeight* weights,
                                  std::int32_t first, std::int32_t end, Put&& put) {
#pragma unroll 1
  for (std::int32_t chunk = first + static_cast<std::int32_t>(threadIdx.x); chunk < end;
       chunk += kThreads) {
    put(chunk, softmax_sum(logits, weights, chunk));
  }
}

}  // namespace hip_attn::cuda
