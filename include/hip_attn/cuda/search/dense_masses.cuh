/// What a dense scan leaves behind of a stage (dense_scan.cuh), in the workspace, and the scores
/// that are made of it: the softmax sum (docs/guide/algorithm.md, "From rows to a score").
///
/// Logits are in units of log 2. What is kept of a row and a chunk is not the logit but a mass,
/// 2^(logit - reference), as bfloat16: to 1 part in 512 whatever its size. The reference is the
/// row's largest logit in the first step of a sum tile. It is raised where a later step of the tile
/// has a logit far above it, and each step keeps the one that its masses were made with. Sums are
/// taken in an order that depends neither on the number of thread blocks nor on other units.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// Rows of a tile of products, and rows of keys or landmarks of one step.
inline constexpr int kDenseRowShift = 6;
inline constexpr int kDenseRows = 1 << kDenseRowShift;
/// A sum tile is the chunks whose masses a row adds up by themselves; tiles are then added up in
/// ascending order. log2 of its chunks.
inline constexpr int kSumTileShift = 6;
static_assert(kSumTileChunks == 1 << kSumTileShift);

/// Chunks of a step: landmarks come as pairs of rows, hi and lo.
inline constexpr int kLandmarkStepShift = kDenseRowShift - 1;
inline constexpr int kLandmarksPerStep = 1 << kLandmarkStepShift;

/// Rows lie in the order in which a warp's lanes have them: of tile row r = 16 w + 8 b + g at
/// 16 w + 2 g + b.
__host__ __device__ constexpr int dense_row(int place) {
  return place / 16 * 16 + place % 2 * 8 + place % 16 / 2;
}

/// One unit's masses of one stage.
struct DenseMasses {
  std::uint16_t* masses;  ///< [chunks][rows], bfloat16
  float* references;      ///< [steps][rows]
  float2* states;         ///< [sum tiles][rows]: reference, sum of masses
  int rows;               ///< padded to tiles

  /// For a stage of so many padded rows, chunks and steps, or fewer.
  __host__ __device__ static std::size_t bytes(std::int64_t rows, std::int64_t chunks,
                                               std::int64_t steps) {
    return static_cast<std::size_t>(rows) *
           (padded(chunks) * sizeof(std::uint16_t) + padded(steps) * sizeof(float) +
            sum_tiles(chunks) * sizeof(float2));
  }

  __device__ DenseMasses(std::byte* memory, int rows_, std::int32_t chunks, std::int32_t steps)
      : masses(reinterpret_cast<std::uint16_t*>(memory)), rows(rows_) {
    memory += static_cast<std::size_t>(rows) * padded(chunks) * sizeof(std::uint16_t);
    references = reinterpret_cast<float*>(memory);
    memory += static_cast<std::size_t>(rows) * padded(steps) * sizeof(float);
    states = reinterpret_cast<float2*>(memory);
  }

 private:
  __host__ __device__ static std::int64_t sum_tiles(std::int64_t chunks) {
    return (chunks + kSumTileChunks - 1) / kSumTileChunks;
  }
  /// Rows are a multiple of 64, so that every array begins on 16 bytes.
  __host__ __device__ static std::int64_t padded(std::int64_t count) { return (count + 1) / 2 * 2; }
};

/// normalisers[place] = log2 of the sum over all chunks of 2^logit, for `count` rows of
/// masses.rows; +inf of those that pad a tile or have no logit, so that their masses come to
/// nothing. Called by the whole block.
template <int kThreads>
__device__ void merge_dense_states(const DenseMasses& masses, int count, std::int32_t chunks,
                                   float* normalisers) {
  const std::int32_t tiles = (chunks + kSumTileChunks - 1) / kSumTileChunks;
#pragma unroll 1
  for (int place = static_cast<int>(threadIdx.x); place < masses.rows; place += kThreads) {
    float max = -INFINITY;
    float sum = 0.f;
#pragma unroll 8
    for (std::int32_t tile = 0; tile < tiles; ++tile) {
      const float2 state = __ldcg(masses.states + tile * masses.rows + place);
      if (!(state.y > 0.f)) continue;
      const float larger = fmaxf(max, state.x);
      sum = sum * exp2_fast(max - larger) + state.y * exp2_fast(state.x - larger);
      max = larger;
    }
    normalisers[place] = sum > 0.f && dense_row(place) < count ? max + __log2f(sum) : INFINITY;
  }
}

/// The score of every chunk of the steps of this warp, which is one of `num_warps`:
/// put(chunk, score). A step has up to kGroups groups of four chunks. Eight lanes share a chunk,
/// each has eight rows of every tile of 64.
template <int kGroups, typename Put>
__device__ void score_dense_steps(const DenseMasses& masses, const float* normalisers,
                                  std::int32_t chunks, int chunks_per_step, int warp, int num_warps,
                                  Put&& put) {
  constexpr std::uint32_t kAll = 0xffffffffu;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int part = lane % 8;
#pragma unroll 1
  for (std::int32_t step = warp; step * chunks_per_step < chunks; step += num_warps) {
    const std::int32_t first = step * chunks_per_step + lane / 8;
    float scores[kGroups] = {};
#pragma unroll 1
    for (int row = part * 8; row < masses.rows; row += kDenseRows) {
      uint4 own[kGroups];
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const std::int32_t chunk = first + i * 4;
        const bool exists = chunk < chunks && i * 4 + lane / 8 < chunks_per_step;
        own[i] = make_uint4(0, 0, 0, 0);
        if (exists) {
          own[i] = __ldcg(reinterpret_cast<const uint4*>(
              masses.masses + (std::int64_t{chunk} * masses.rows + row)));
        }
      }
      float factors[8];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 references = __ldcg(reinterpret_cast<const float4*>(
            masses.references + (std::int64_t{step} * masses.rows + row + half * 4)));
        const float4 of_rows = *reinterpret_cast<const float4*>(normalisers + row + half * 4);
        factors[half * 4] = exp2_fast(references.x - of_rows.x);
        factors[half * 4 + 1] = exp2_fast(references.y - of_rows.y);
        factors[half * 4 + 2] = exp2_fast(references.z - of_rows.z);
        factors[half * 4 + 3] = exp2_fast(references.w - of_rows.w);
      }
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const std::uint32_t words[4] = {own[i].x, own[i].y, own[i].z, own[i].w};
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          scores[i] += __uint_as_float(words[w] << 16) * factors[2 * w];
          scores[i] += __uint_as_float(words[w] & 0xffff0000u) * factors[2 * w + 1];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
#pragma unroll
      for (int lanes = 1; lanes <= 4; lanes *= 2) {
        scores[i] += __shfl_xor_sync(kAll, scores[i], lanes);
      }
      const std::int32_t chunk = first + i * 4;
      if (part == 0 && chunk < chunks && i * 4 + lane / 8 < chunks_per_step) put(chunk, scores[i]);
    }
  }
}

}  // namespace hip_attn::cuda
