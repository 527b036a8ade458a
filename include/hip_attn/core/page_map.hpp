/// Where the rows of a paged cache lie: from a position to its page and the row's place there.
#pragma once

#include <cstdint>

#include "hip_attn/core/host_device.hpp"

namespace hip_attn {

/// The pages of all requests: plain data, 32-bit, for caches whose positions and pages fit. Keys
/// and values of one cache share a map; rows of another kind (one row for each chunk of tokens,
/// say) have one of their own.
struct PageMap {
  std::int32_t page_size;  ///< rows of a page; at most INT32_MAX: no position lies beyond
  std::int32_t num_pages;  ///< likewise: a table names no page beyond
  /// Of a position below 2^31: ((2 * position * column_factor) >> 32) >> column_shift is position /
  /// page_size, for every page size.
  std::uint32_t column_factor;
  std::int32_t column_shift;
  const std::int32_t* block_table;  ///< [B, max_pages], null: page b for request b
  std::int64_t table_row_stride;    ///< 0 without a table
  std::int64_t table_columns;       ///< 1 without a table
  std::int64_t table_head_stride;   ///< from the table of a KV head to the next; 0: all share one
  const std::int32_t* table_rows;   ///< [B] the table's row of request b; null: row b
  std::int32_t num_table_rows;      ///< rows that table_rows may name; any other has no page

  /// position / page_size: the column of the block table that has the position's page.
  HIP_ATTN_HOST_DEVICE std::int32_t column(std::int32_t position) const {
    const std::uint32_t twice = 2u * static_cast<std::uint32_t>(position);
#if defined(__CUDA_ARCH__)
    return static_cast<std::int32_t>(__umulhi(twice, column_factor) >> column_shift);
#else
    const std::uint64_t product = std::uint64_t{twice} * column_factor;
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(product >> 32) >> column_shift);
#endif
  }

  /// The position's row on its page.
  HIP_ATTN_HOST_DEVICE std::int32_t offset(std::int32_t position) const {
    return position - column(position) * page_size;
  }

  /// Rows that the pages of one request can hold.
  HIP_ATTN_HOST_DEVICE std::int64_t capacity() const {
    return std::int64_t{page_size} * table_columns;
  }
};

}  // namespace hip_attn
