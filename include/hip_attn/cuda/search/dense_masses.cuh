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

/// Where the arrays of one unit's masses of one stage lie, for as many padded rows, chunks and
/// steps.
struct DenseMassLayout {
  std::int32_t rows;            ///< padded to tiles
  std::uint32_t references_at;  ///< in bytes
  std::uint32_t states_at;
  std::uint32_t bytes;

  /// 32 bits are enough: 49152 scores, the most that shared memory holds, of 16384 rows take 2 GB.
  __host__ __device__ static DenseMassLayout make(std::int64_t rows, std::int64_t chunks,
                                                  std::int64_t steps) {
    const std::int64_t references_at =
        rows * padded(chunks, kLandmarksPerStep) * std::int64_t{sizeof(std::uint16_t)};
    const std::int64_t states_at =
        references_at + rows * padded(steps, 2) * std::int64_t{sizeof(float)};
    const std::int64_t sum_tiles = (chunks + kSumTileChunks - 1) / kSumTileChunks;
    return {
        static_cast<std::int32_t>(rows), static_cast<std::uint32_t>(references_at),
        static_cast<std::uint32_t>(states_at),
        static_cast<std::uint32_t>(states_at + rows * sum_tiles * std::int64_t{sizeof(float2)})};
  }

 private:
  /// Every step has room for all its chunks, and every array begins on 16 bytes: rows are a
  /// multiple of 64.
  __host__ __device__ static std::int64_t padded(std::int64_t count, int to) {
    return (count + to - 1) / to * to;
  }
};

/// One unit's masses of one stage.
struct DenseMasses {
  std::byte* memory;
  const DenseMassLayout& layout;

  __device__ int rows() const { return layout.rows; }
  /// [chunks of all steps][rows], bfloat16
  __device__ std::uint16_t* masses() const { return reinterpret_cast<std::uint16_t*>(memory); }
  /// [steps][rows]
  __device__ float* references() const {
    return reinterpret_cast<float*>(memory + layout.references_at);
  }
  /// [sum tiles][rows]: reference, sum of masses
  __device__ float2* states() const { return reinterpret_cast<float2*>(memory + layout.states_at); }
};

/// normalisers[place] = log2 of the sum over all chunks of 2^logit, for `count` rows of
/// masses.rows(); +inf of those that pad a tile or have no logit, so that their masses come to
/// nothing. Called by the whole block.
template <int kThreads>
__device__ void merge_dense_states(const DenseMasses& masses, int count, std::int32_t chunks,
                                   float* normalisers) {
  const std::int32_t tiles = (chunks + kSumTileChunks - 1) / kSumTileChunks;
#pragma unroll 1
  for (int place = static_cast<int>(threadIdx.x); place < masses.rows(); place += kThreads) {
    float max = -INFINITY;
    float sum = 0.f;
    constexpr int kTogether = 8;
#pragma unroll 1
    for (std::int32_t first = 0; first < tiles; first += kTogether) {
      float2 states[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        states[i] = __ldcg(masses.states() + min(first + i, tiles - 1) * masses.rows() + place);
      }
      float largest = max;
#pragma unroll
      for (const float2& state : states) {
        if (state.y > 0.f) largest = fmaxf(largest, state.x);
      }
      if (sum > 0.f) sum *= exp2_fast(max - largest);
      max = largest;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const bool counts = states[i].y > 0.f && first + i < tiles;
        sum += counts ? states[i].y * exp2_fast(states[i].x - max) : 0.f;
      }
    }
    normalisers[place] = sum > 0.f && dense_row(place) < count ? max + __log2f(sum) : INFINITY;
  }
}

/// The sums over the eight lanes of a group of several values, taken in pairs of lanes. Each lane
/// is left with the sum of one value, in values[0], whose number is returned; of four values, lanes
/// four apart have the same.
template <int kValues>
__device__ int add_up_eight_lanes(float (&values)[kValues]) {
  static_assert(kValues == 4 || kValues == 8);
  const int lane = static_cast<int>(threadIdx.x) % 8;
  int number = 0;
  int left = kValues;
#pragma unroll
  for (int distance = 1; distance <= 4; distance *= 2) {
    const bool shares = left > 1;  // each of two lanes keeps half of the values
    if (shares) left /= 2;
    const bool upper = shares && (lane & distance) != 0;
    number += upper ? left : 0;
#pragma unroll
    for (int i = 0; i < left; ++i) {
      const float other = shares ? values[left + i] : values[i];
      const float given = upper ? values[i] : other;
      values[i] = (upper ? other : values[i]) + __shfl_xor_sync(0xffffffffu, given, distance);
    }
  }
  return number;
}

/// The score of every chunk of the steps of this warp, which is one of `num_warps`:
/// put(chunk, score). A step has up to kGroups groups of four chunks. Eight lanes share a chunk,
/// each has eight rows of every tile of 64; the warp takes several groups at once.
template <int kGroups, typename Put>
__device__ void score_dense_steps(const DenseMasses& masses, const float* normalisers,
                                  std::int32_t chunks, int chunks_per_step, int warp, int num_warps,
                                  Put&& put) {
  constexpr int kTogether = kGroups == 8 ? 1 : 4;  // steps
  constexpr int kValues = kTogether * kGroups;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int part = lane % 8;
  const std::int32_t steps = (chunks + chunks_per_step - 1) / chunks_per_step;
#pragma unroll 1
  for (std::int32_t first = warp * kTogether; first < steps; first += num_warps * kTogether) {
    // Of value i; numbers past the last chunk are no chunks.
    const auto chunk_of = [&](int i) {
      const int within = i % kGroups * 4 + lane / 8;
      return within < chunks_per_step ? (first + i / kGroups) * chunks_per_step + within : chunks;
    };
    float scores[kValues] = {};
#pragma unroll 1
    for (int row = part * 8; row < masses.rows(); row += kDenseRows) {
      uint4 own[kValues];
      float4 references[kTogether][2];
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        const std::int64_t chunk = min(chunk_of(i), chunks - 1);
        own[i] =
            __ldcg(reinterpret_cast<const uint4*>(masses.masses() + (chunk * masses.rows() + row)));
      }
#pragma unroll
      for (int step = 0; step < kTogether; ++step) {
        const auto* const of_step = reinterpret_cast<const float4*>(
            masses.references() +
            (std::int64_t{min(first + step, steps - 1)} * masses.rows() + row));
        references[step][0] = __ldcg(of_step);
        references[step][1] = __ldcg(of_step + 1);
      }
      const float4 of_rows[2] = {*reinterpret_cast<const float4*>(normalisers + row),
                                 *reinterpret_cast<const float4*>(normalisers + row + 4)};
#pragma unroll
      for (int step = 0; step < kTogether; ++step) {
        float factors[8];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          factors[half * 4] = exp2_fast(references[step][half].x - of_rows[half].x);
          factors[half * 4 + 1] = exp2_fast(references[step][half].y - of_rows[half].y);
          factors[half * 4 + 2] = exp2_fast(references[step][half].z - of_rows[half].z);
          factors[half * 4 + 3] = exp2_fast(references[step][half].w - of_rows[half].w);
        }
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
          const int i = step * kGroups + group;
          const std::uint32_t words[4] = {own[i].x, own[i].y, own[i].z, own[i].w};
#pragma unroll
          for (int w = 0; w < 4; ++w) {
            scores[i] += __uint_as_float(words[w] << 16) * factors[2 * w];
            scores[i] += __uint_as_float(words[w] & 0xffff0000u) * factors[2 * w + 1];
          }
        }
      }
    }
    const std::int32_t chunk = chunk_of(add_up_eight_lanes(scores));
    if (chunk < chunks && part < kValues) put(chunk, scores[0]);
  }
}

}  // namespace hip_attn::cuda
