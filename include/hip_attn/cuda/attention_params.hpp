/// What the attention kernels are told of their tensors: plain structs, by value, no CUDA types.
/// Positions and counts of keys fit 32 bits; strides and whatever multiplies them are 64. Strides
/// count elements.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// Stages that fit a kernel's parameters; hip_classic needs log2(max_len / k) of them.
inline constexpr int kMaxStages = 32;

struct StageParams {
  std::int32_t chunk_size;  ///< of stage 0: before doubling
  std::int32_t query_stride;
  std::int32_t keep;
  std::int32_t max_survivors;
  std::int32_t
      cache_word;  ///< where the stage's count stands in a decode cache entry; survivors follow
  bool centre;
};

/// One of K and V.
template <typename T>
struct PageParams {
  const T* data;
  std::int64_t page_stride;
  std::int64_t token_stride;
  std::int64_t head_stride;
};

template <typename T>
struct KvParams {
  PageParams<T> k;
  PageParams<T> v;
  std::int32_t page_size;  ///< at most INT32_MAX: no position lies beyond
  std::int32_t num_pages;  ///< likewise: a table names no page beyond
  /// Of a position below 2^31: ((2 * position * column_factor) >> 32) >> column_shift is position /
  /// page_size, for every page size.
  std::uint32_t column_factor;
  std::int32_t column_shift;
  const std::int32_t* block_table;  ///< [B, max_pages], null: page b for request b
  std::int64_t table_row_stride;    ///< 0 without a table
  std::int64_t table_columns;
};

template <typename I>
struct SelectionParams {
  I* blocks = nullptr;  ///< null: absent
  std::int64_t blocks_row_stride;
  std::int64_t blocks_head_stride;
  std::int64_t max_blocks;
  I* counts;
  std::int64_t counts_row_stride;
  I* window_start;
  std::int64_t window_row_stride;
};

}  // namespace hip_attn::cuda
