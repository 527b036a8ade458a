/// Query rows of one unit in shared memory: as they are for attention, pooled for the search.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode/layout.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/query_rows.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"

namespace hip_attn::cuda {

template <int kHeadDim>
inline constexpr int kQueryPitch = query_pitch(kHeadDim);

/// Rows of a unit are numbered by query row, then head of the group. Rows up to the next whole tile
/// repeat row 0, which changes no maximum. `first` is the offset in q of row 0 of the
/// group's first head.

/// Starts to copy the rows as they are: they have arrived after wait_for_copies() and a barrier.
/// Called by the whole block. kFloatRows: q may be floats.
template <typename Traits, bool kFloatRows>
__device__ void copy_queries(const DecodeParams<StoredOf<Traits>>& params, std::int64_t first,
                             int rows, typename Traits::Element* queries) {
  using Element = typename Traits::Element;
  constexpr int kHeadDim = Traits::kHeadDim;
  constexpr int kPieces = kHeadDim / 8;  // of 16 bytes
  const auto& q = params.tensors.q;
  const int unit_rows = rows * params.group;
#pragma unroll 1
  for (int i = decode_thread(); i < padded_rows(unit_rows) * kPieces; i += kDecodeThreads) {
    const int to = i / kPieces;
    const int unit_row = to < unit_rows ? to : 0;
    const int row = unit_row * params.group_factor >> kGroupShift;
    const int head = unit_row - row * params.group;
    const std::uint32_t place =
        shared_address(queries + to * kQueryPitch<kHeadDim> + i % kPieces * 8);
    const std::int64_t from = first + row * q.row_stride + head * q.head_stride + i % kPieces * 8;
    if constexpr (kFloatRows) {
      copy_queries_async<Element>(place, q, from);
    } else {
      copy_async_16(place, elements_at<Element>(q, from));
    }
  }
  commit_copies();
}

/// Writes the mean of every `stride` rows (those that are present, summed in fp32, rounded to T) of
/// every head. Called by the whole block; returns the number of pooled rows.
template <typename Traits, bool kFloatRows>
__device__ int pool_queries(const DecodeParams<StoredOf<Traits>>& params, std::int64_t first,
                            int rows, int stride, typename Traits::Element* queries) {
  using Element = typename Traits::Element;
  constexpr int kHeadDim = Traits::kHeadDim;
  const int pooled = (rows + stride - 1) / stride * params.group;
#pragma unroll 1
  for (int i = decode_thread(); i < padded_rows(pooled) * kHeadDim; i += kDecodeThreads) {
    const int row = i / kHeadDim;
    const int d = i % kHeadDim;
    const int source = row < pooled ? row : 0;
    const int begin = source / params.group * stride;
    const int end = min(begin + stride, rows);
    const std::int64_t element = first + (source % params.group) * params.tensors.q.head_stride + d;
    float sum = 0.f;
#pragma unroll 1
    for (int r = begin; r < end; ++r) {
      sum += query_element<Element, kFloatRows>(params.tensors.q,
                                                element + r * params.tensors.q.row_stride);
    }
    queries[row * kQueryPitch<kHeadDim> + d] =
        narrow<Element>(sum / static_cast<float>(end - begin));
  }
  return pooled;
}

}  // namespace hip_attn::cuda
