/// Query rows of a prefill unit, pooled for the search.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/mma.cuh"
#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/cuda/query_block.cuh"

namespace hip_attn::cuda {

/// Pooled rows of one tensor-core product.
inline constexpr int kSearchRowTile = 8;

/// Pooled rows padded to whole products.
__host__ __device__ constexpr int padded_search_rows(int rows) {
  return (rows + kSearchRowTile - 1) / kSearchRowTile * kSearchRowTile;
}

/// Pieces of 16 bytes in a row.
template <int kHeadDim>
inline constexpr int kRowPieces = kHeadDim / 8;

/// Where piece p of pooled row r lies, in pieces. Odd rows exchange neighbouring groups of four
/// pieces: the eight lanes of one shared-memory access read four pieces of two neighbouring rows,
/// which then lie in different banks without padding.
template <int kHeadDim>
__device__ constexpr int search_piece(int row, int piece) {
  return row * kRowPieces<kHeadDim> + (piece ^ (row % 2 * 4));
}

/// Writes the mean of the rows present in every group of `stride` positions (groups start at
/// multiples of stride; summed in fp32 in row order, rounded to T) for every head of the group: row
/// order is group of positions, then head. Rows up to the next whole tile repeat row 0, which
/// changes no maximum. Called by the whole block; returns the number of pooled rows.
template <typename T, int kHeadDim, int kThreads>
__device__ int pool_search_queries(const PrefillParams<T>& params, const QueryBlock& block,
                                   int kv_head, int stride, uint4* queries) {
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
    uint4 words = *reinterpret_cast<const uint4*>(from);
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
      words = {narrow_pair<T>(sums[0] / count, sums[1] / count),
               narrow_pair<T>(sums[2] / count, sums[3] / count),
               narrow_pair<T>(sums[4] / count, sums[5] / count),
               narrow_pair<T>(sums[6] / count, sums[7] / count)};
    }
    queries[search_piece<kHeadDim>(row, piece)] = words;
  }
  return pooled;
}

}  // namespace hip_attn::cuda
