/// Query rows of a prefill unit, pooled for the search.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/mma.cuh"
#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/cuda/query_block.cuh"

namespace hip_attn::cuda {

/// Pooled rows of one tensor-core product.
inline constexpr int kSearchRowTile = 16;

/// Pooled rows padded to whole products.
__host__ __device__ constexpr int padded_search_rows(int rows) {
  return (rows + kSearchRowTile - 1) / kSearchRowTile * kSearchRowTile;
}

/// Pieces of 16 bytes in a row.
template <int kHeadDim>
inline constexpr int kRowPieces = kHeadDim / 8;

/// Sixteen pooled rows of queries as the tensor cores take them: lane (g, t) = (lane / 4, lane % 4)
/// of step 2 i + s reads 16 bytes, which are words 2 s and 2 s + 1 of piece 4 i + t of rows g and g
/// + 8, alternating. Keys that lie in registers as they lie in memory (search_scan.cuh) meet the
/// same columns, and no lane shares a bank with another.
template <int kHeadDim>
struct QueryFragments {
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kWordsPerTile = kSteps * 32 * 4;

  /// Where word w of piece p of pooled row r lies, in words.
  __device__ static constexpr int word(int row, int piece, int w) {
    const int step = piece / 4 * 2 + w / 2;
    const int lane = row % 8 * 4 + piece % 4;
    return row / kSearchRowTile * kWordsPerTile + (step * 32 + lane) * 4 + w % 2 * 2 + row / 8 % 2;
  }
};

/// Writes the mean of the rows present in every group of `stride` positions (groups start at
/// multiples of stride; summed in fp32 in row order, rounded to T) for every head of the group: row
/// order is group of positions, then head. Rows up to the next whole tile repeat row 0, which
/// changes no maximum. Called by the whole block; returns the number of pooled rows.
template <typename T, int kHeadDim, int kThreads>
__device__ int pool_search_queries(const PrefillParams<T>& params, const QueryBlock& block,
                                   int kv_head, int stride, std::uint32_t* queries) {
  constexpr int kPieces = kRowPieces<kHeadDim>;
  const T* first = params.q + block.first_row * params.q_row_stride +
                   std::int64_t{kv_head} * params.group * params.q_head_stride;
  const int anchor = block.p0 % stride;
  const int pooled = (anchor + block.rows + stride - 1) / stride * params.group;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < padded_search_rows(pooled) * kPieces;
       i += kThreads) {
    const int row = i / kPieces;
    const int piece = i % kPieces;
    const int source = row < pooled ? row : 0;
    const int group = source / params.group;
    const int begin = max(0, group * stride - anchor);
    const int end = min(block.rows, (group + 1) * stride - anchor);
    const T* from = first + begin * params.q_row_stride +
                    source % params.group * params.q_head_stride + piece * 8;
    std::uint32_t words[4];
    *reinterpret_cast<uint4*>(words) = *reinterpret_cast<const uint4*>(from);
    if (end - begin > 1) {
      float sums[8] = {};
#pragma unroll 1
      for (int r = begin; r < end; ++r, from += params.q_row_stride) {
        T values[8];
        *reinterpret_cast<uint4*>(values) = *reinterpret_cast<const uint4*>(from);
#pragma unroll
        for (int e = 0; e < 8; ++e) sums[e] += widen(values[e]);
      }
      const auto count = static_cast<float>(end - begin);
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        words[w] = narrow_pair<T>(sums[2 * w] / count, sums[2 * w + 1] / count);
      }
    }
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      queries[QueryFragments<kHeadDim>::word(row, piece, w)] = words[w];
    }
  }
  return pooled;
}

}  // namespace hip_attn::cuda
