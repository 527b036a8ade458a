/// What a dense scan leaves behind of a stage (dense_scan.cuh), in the workspace, and the scores
/// that are made of it: the softmax sum (docs/guide/algorithm.md, "From rows to a score").
///
/// Logits are in units of log 2. What is kept of a row and a chunk is not the logit but a mass,
/// 2^(logit - reference), as bfloat16: to 1 part in 512 whatever its size. The reference is the
/// row's largest logit in the first step of a sum tile in which it has one. It is raised where a
/// later step of the tile has a logit far above it, and each step keeps the one that its masses
/// were made with. Sums are taken in an order that depends neither on the number of thread blocks
/// nor on other units.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// Rows of a tile of products, and rows of keys or landmarks of one step.
inline constexpr int kDenseRowShift = 6;
inline constexpr int kDenseRows = 1 << kDenseRowShift;
/// A sum tile is the chunks whose masses a row adds up by themselves; tiles are then added up as
/// merge_dense_states() does. log2 of its chunks.
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

  /// 32 bits are enough: with as many scores and normalisers as shared memory holds beside each
  /// other, it is 2.5 GB at most.
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

/// The masses of both; one whose sum is 0 counts for nothing.
__device__ inline MassSum sum_of(const MassSum& a, const MassSum& b) {
  const float a_max = a.sum > 0.f ? a.max : kNoLogit;
  const float b_max = b.sum > 0.f ? b.max : kNoLogit;
  const float max = fmaxf(a_max, b_max);
  if (max == kNoLogit) return {kNoLogit, 0.f};
  return {max, a.sum * exp2_fast(a_max - max) + b.sum * exp2_fast(b_max - max)};
}

/// normalisers[place] = log2 of the sum over all chunks of 2^logit, for `count` rows of
/// masses.rows(); +inf of those that pad a tile or have no logit, so that their masses come to
/// nothing. Called by the whole block.
template <int kThreads>
__device__ void merge_dense_states(const DenseMasses& masses, int count, std::int32_t chunks,
                                   float* normalisers) {
  constexpr int kLanes = 4;  // that share a row: each has every fourth sum tile
  constexpr int kTogether = 8;
  static_assert(kDenseRows % (kThreads / kLanes) == 0);  // so that warps stay together
  const std::int32_t tiles = (chunks + kSumTileChunks - 1) / kSumTileChunks;
#pragma unroll 1
  for (int place = static_cast<int>(threadIdx.x) / kLanes; place < masses.rows();
       place += kThreads / kLanes) {
    MassSum all{kNoLogit, 0.f};
#pragma unroll 1
    for (std::int32_t first = static_cast<int>(threadIdx.x) % kLanes; first < tiles;
         first += kLanes * kTogether) {
      MassSum states[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const std::int32_t tile = first + i * kLanes;
        const float2 state = __ldcg(masses.states() + min(tile, tiles - 1) * masses.rows() + place);
        states[i] = tile < tiles ? MassSum{state.x, state.y} : MassSum{kNoLogit, 0.f};
      }
#pragma unroll
      for (int distance = 1; distance < kTogether; distance *= 2) {
#pragma unroll
        for (int i = 0; i < kTogether; i += 2 * distance) {
          states[i] = sum_of(states[i], states[i + distance]);
        }
      }
      all = sum_of(all, states[0]);
    }
#pragma unroll
    for (int lanes = 1; lanes < kLanes; lanes *= 2) {
      all = sum_of(all, {__shfl_xor_sync(0xffffffffu, all.max, lanes),
                         __shfl_xor_sync(0xffffffffu, all.sum, lanes)});
    }
    normalisers[place] =
        all.sum > 0.f && dense_row(place) < count ? all.max + __log2f(all.sum) : INFINITY;
  }
}

/// 2^x and 2^y as a pair of bfloat16, or what the pair lacks of them.
__device__ inline std::uint32_t dense_factors(float x, float y, bool rest) {
  const float low = exp2_fast(x);
  const float high = exp2_fast(y);
  const std::uint32_t pair = narrow_pair<bfloat16>(low, high);
  if (!rest) return pair;
  return narrow_pair<bfloat16>(low - __uint_as_float(pair << 16),
                               high - __uint_as_float(pair & 0xffff0000u));
}

/// The scores of the chunks of this warp, which is one of `num_warps`: put(chunk, score), by one
/// lane each. A step has 2^step_shift chunks.
///
/// A chunk's score is the product of its masses with the factors of its step, 2^(reference -
/// normaliser) of each row. The warp takes four groups of up to eight chunks of a step at a time,
/// as rows of two tensor-core products, whose columns are the factors of the first group, then what
/// bfloat16 lacks of them, then the same of the second group, and so on: a group's scores are the
/// sums of its two columns. Lane t of a quad has rows 16 t to 16 t + 15 of every tile of 64.
template <typename Put>
__device__ void score_dense_chunks(const DenseMasses& masses, const float* normalisers,
                                   std::int32_t chunks, int step_shift, int warp, int num_warps,
                                   Put&& put) {
  constexpr int kGroups = 4;
  constexpr int kLaneRows = 16;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const int group_shift = min(step_shift, 3);
  const std::int32_t groups = (chunks + (1 << group_shift) - 1) >> group_shift;
  const std::uint32_t rows = masses.rows();
#pragma unroll 1
  for (std::int32_t first = warp * kGroups; first < groups; first += num_warps * kGroups) {
    // Of this lane in a group; what is past the last one is read and not kept.
    const auto chunk_of = [&](int group) { return ((first + group) << group_shift) + g; };
    const std::int32_t step = min(first + g / 2, groups - 1) >> (step_shift - group_shift);
    float products[kGroups / 2][4] = {};
#pragma unroll 1
    for (std::uint32_t row = t * kLaneRows; row < rows; row += kDenseRows) {
      // All on their way before one is waited for.
      const auto* const of_step =
          reinterpret_cast<const uint4*>(masses.references() + (step * rows + row));
      uint4 references[kLaneRows / 4];
#pragma unroll
      for (int i = 0; i < kLaneRows / 4; ++i) references[i] = read_from_l2_16(of_step + i);
      uint4 own[kGroups][2];
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        const auto* const of_chunk = reinterpret_cast<const uint4*>(
            masses.masses() + (min(chunk_of(group), chunks - 1) * rows + row));
#pragma unroll
        for (int i = 0; i < 2; ++i) own[group][i] = read_from_l2_16(of_chunk + i);
      }
      uint2 factors[kLaneRows / 4];
#pragma unroll
      for (int i = 0; i < kLaneRows / 4; ++i) {
        const float4 of_rows = *reinterpret_cast<const float4*>(normalisers + row + 4 * i);
        const uint4& r = references[i];
        factors[i] = {dense_factors(__uint_as_float(r.x) - of_rows.x,
                                    __uint_as_float(r.y) - of_rows.y, g % 2 != 0),
                      dense_factors(__uint_as_float(r.z) - of_rows.z,
                                    __uint_as_float(r.w) - of_rows.w, g % 2 != 0)};
      }
#pragma unroll
      for (int i = 0; i < kLaneRows / 8; ++i) {
#pragma unroll
        for (int pair = 0; pair < kGroups / 2; ++pair) {
          const uint4& upper = own[2 * pair][i];
          const uint4& lower = own[2 * pair + 1][i];
          const uint2& first_half = factors[2 * i];
          const uint2& second_half = factors[2 * i + 1];
          mma_16x8x16<bfloat16>(products[pair], upper.x, lower.x, upper.y, lower.y, first_half.x,
                                first_half.y);
          mma_16x8x16<bfloat16>(products[pair], upper.z, lower.z, upper.w, lower.w, second_half.x,
                                second_half.y);
        }
      }
    }
    // Lane t has the columns of group t.
    float of_pair[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) of_pair[i] = t < 2 ? products[0][i] : products[1][i];
    const float score = t % 2 == 0 ? of_pair[0] + of_pair[1] : of_pair[2] + of_pair[3];
    const std::int32_t chunk = chunk_of(t);
    if (g < 1 << group_shift && chunk < chunks) put(chunk, score);
  }
}

}  // namespace hip_attn::cuda
