/// Query blocks of prefill, found from their selection row on the device.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/cuda/rows/paged_rows.cuh"

namespace hip_attn::cuda {

/// The rows of one request that share a selection (docs/guide/algorithm.md, "Query blocks").
struct QueryBlock {
  enum class Kind { kNone, kAttend, kPadding, kRefused };

  Kind kind = Kind::kNone;  ///< kNone: no query block has this selection row
  std::int32_t request = 0;
  std::int32_t begin = 0;      ///< the request's first row, in out
  std::int32_t first_row = 0;  ///< of the block, in out
  std::int32_t rows = 0;       ///< at least 1 unless kNone
  std::int32_t p0 = 0;         ///< position of first_row

  /// Offset of its first row in q.
  __device__ std::int64_t first_query(const QueryTensor& q) const {
    return q.first(request, begin) + (first_row - begin) * q.row_stride;
  }
};

/// The query block of a selection row. Requests without keys have blocks too (kPadding), counted
/// from their first row; so have those whose lengths do not hold (kRefused: their rows become NaN).
/// Cost: log2(batch) dependent loads.
template <typename Stored>
__device__ QueryBlock find_query_block(const PrefillParams<Stored>& params,
                                       std::int32_t selection_row) {
  const auto first_selection_row = [&](std::int32_t b) {
    return params.tensors.cu_seqlens_q[b] / params.block_q + 2 * b;
  };
  // The last request whose first selection row is not above: they ascend strictly.
  std::int32_t low = 0;
  std::int32_t high = params.tensors.batch;
  while (high - low > 1) {
    const std::int32_t middle = low + (high - low) / 2;
    if (first_selection_row(middle) <= selection_row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  QueryBlock block;
  block.request = low;
  const std::int32_t n = selection_row - first_selection_row(low);
  const std::int32_t begin = params.tensors.cu_seqlens_q[low];
  const std::int32_t q_len = params.tensors.cu_seqlens_q[low + 1] - begin;
  const std::int32_t seq_len = params.tensors.seq_lens[low];
  if (begin < 0 || q_len <= 0 || n < 0 || std::int64_t{begin} + q_len > params.tensors.total_q)
    return block;

  const bool holds = seq_len >= 0 && seq_len <= params.max_seq_len &&
                     seq_len <= params.tensors.kv.map.capacity() &&
                     (seq_len == 0 || q_len <= seq_len) && q_len <= params.tensors.q.request_rows;
  const std::int32_t first_position = holds && seq_len > 0 ? seq_len - q_len : 0;
  const std::int32_t anchor = first_position % params.block_q;  // of the first block
  const std::int64_t row = n == 0 ? 0 : std::int64_t{n} * params.block_q - anchor;
  if (row >= q_len) return block;
  block.kind = !holds        ? QueryBlock::Kind::kRefused
               : seq_len > 0 ? QueryBlock::Kind::kAttend
                             : QueryBlock::Kind::kPadding;
  block.begin = begin;
  block.first_row = begin + static_cast<std::int32_t>(row);
  block.p0 = first_position + static_cast<std::int32_t>(row);
  block.rows = min(params.block_q - (n == 0 ? anchor : 0), q_len - static_cast<std::int32_t>(row));
  return block;
}

/// The selection rows up to that of the last query block, or a few more: the last request mostly
/// has one or two fewer query blocks than selection rows.
template <typename Stored>
__device__ std::int32_t rows_with_query_blocks(const PrefillParams<Stored>& params) {
  std::int32_t rows = params.selection_rows;
  for (int i = 0; i < 2 && rows > 0; ++i) {
    if (find_query_block(params, rows - 1).kind != QueryBlock::Kind::kNone) break;
    --rows;
  }
  return rows;
}

}  // namespace hip_attn::cuda
