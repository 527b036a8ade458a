/// Query rows of a prefill unit, pooled for the search.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/rows/query_block.cuh"
#include "hip_attn/cuda/rows/query_rows.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"

namespace hip_attn::cuda {

/// Pieces of 16 bytes in a row.
template <int kHeadDim>
inline constexpr int kRowPieces = kHeadDim / 8;

/// Writes the mean of the rows present in every group of `stride` positions (groups start at
/// multiples of stride; summed in fp32 in row order, rounded to T) for every head of the group: row
/// order is group of positions, then head. Rows up to the next whole tile of the layout repeat some
/// of these, which changes no maximum. Layout::word(row, piece, w) says where word w of a piece of
/// 16 bytes goes, in words. A thread asks for several pieces before it waits for one: one after the
/// other they took a quarter of the search of 128k tokens on an H200.
template <typename Traits, int kThreads, typename Layout>
class PooledQueries {
 public:
  using Element = typename Traits::Element;
  using Params = PrefillParams<StoredOf<Traits>>;

  __device__ PooledQueries(const Params& params, const QueryBlock& block, int kv_head, int stride)
      : params_(params),
        first_(block.first_query(params.tensors.q) +
               std::int64_t{kv_head} * params.group * params.tensors.q.head_stride),
        rows_(block.rows),
        stride_(stride),
        anchor_(block.p0 % stride),
        pooled_((anchor_ + block.rows + stride - 1) / stride * params.group) {}

  __device__ int rows() const { return pooled_; }
  __device__ int padded_rows() const { return Layout::padded(pooled_); }

  /// Called by the whole block.
  __device__ void write(std::uint32_t* queries) const {
    if (kThreads % kPieces != 0 && first_row() >= kRowsApart) return;
    if (stride_ == 1) {
      copy(queries);
    } else {
      average(queries);
    }
  }

  /// The same of one tile of the layout, that of rows [first, first + kRowTile).
  __device__ void write_tile(std::uint32_t* queries, int first) const {
    if (kThreads % kPieces != 0 && first_row() >= kRowsApart) return;
#pragma unroll 1
    for (int at = first_row(); at < Layout::kRowTile; at += kRowsApart) {
      const int row = first + at < pooled_ ? first + at : 0;
      std::uint32_t words[4];
      if (stride_ == 1) {
        *reinterpret_cast<uint4*>(words) = read_queries_once<Element>(
            params_.tensors.q, source(row / params_.group, row % params_.group));
      } else {
        mean_of(row, words);
      }
      store(queries, at, words);
    }
  }

 private:
  static constexpr int kPieces = kRowPieces<Traits::kHeadDim>;
  /// A thread has the same piece of every row; some have none where kPieces is no power of two.
  static constexpr int kRowsApart = kThreads / kPieces;

  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / kPieces; }
  __device__ static int piece() { return static_cast<int>(threadIdx.x) % kPieces; }

  __device__ std::int64_t source(int row, int head) const {
    return first_ + row * params_.tensors.q.row_stride + head * params_.tensors.q.head_stride +
           piece() * 8;
  }

  __device__ void store(std::uint32_t* queries, int row, const std::uint32_t (&words)[4]) const {
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      queries[Layout::word(row, piece(), w)] = words[w];
    }
  }

  __device__ void copy(std::uint32_t* queries) const {
    constexpr int kTogether = 8;
#pragma unroll 1
    for (int begin = first_row(); begin < padded_rows(); begin += kTogether * kRowsApart) {
      std::uint32_t words[kTogether][4];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const int row = begin + j * kRowsApart < pooled_ ? begin + j * kRowsApart : 0;
        *reinterpret_cast<uint4*>(words[j]) = read_queries_once<Element>(
            params_.tensors.q, source(row / params_.group, row % params_.group));
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const int row = begin + j * kRowsApart;
        if (row < padded_rows()) store(queries, row, words[j]);
      }
    }
  }

  __device__ void average(std::uint32_t* queries) const {
#pragma unroll 1
    for (int row = first_row(); row < pooled_; row += kRowsApart) {
      std::uint32_t words[4];
      mean_of(row, words);
#pragma unroll 1
      for (int at = row; at < padded_rows(); at += pooled_) store(queries, at, words);
    }
  }

  __device__ void mean_of(int row, std::uint32_t (&words)[4]) const {
    constexpr int kTogether = 4;
    const int begin = max(0, row / params_.group * stride_ - anchor_);
    const int end = min(rows_, (row / params_.group + 1) * stride_ - anchor_);
    float sums[8] = {};
#pragma unroll 1
    for (int r = begin; r < end; r += kTogether) {
      Element values[kTogether][8];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        *reinterpret_cast<uint4*>(values[j]) = read_queries_once<Element>(
            params_.tensors.q, source(min(r + j, end - 1), row % params_.group));
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        if (r + j >= end) break;
#pragma unroll
        for (int e = 0; e < 8; ++e) sums[e] += widen(values[j][e]);
      }
    }
    const auto count = static_cast<float>(end - begin);
    const bool exact = ((end - begin) & (end - begin - 1)) == 0;  // 1 / count is
    const float inverse = 1.f / count;
#pragma unroll
    for (int e = 0; e < 8; ++e) sums[e] = exact ? sums[e] * inverse : sums[e] / count;
#pragma unroll
    for (int w = 0; w < 4; ++w) words[w] = narrow_pair<Element>(sums[2 * w], sums[2 * w + 1]);
  }

  const Params& params_;
  std::int64_t first_;  ///< offset in q
  int rows_;
  int stride_;
  int anchor_;
  int pooled_;
};

}  // namespace hip_attn::cuda
