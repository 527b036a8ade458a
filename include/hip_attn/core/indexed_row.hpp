/// A row whose key blocks are given by their numbers, as both backends see it
/// (hip_attn/index_selection.hpp).
#pragma once

#include <cstdint>

#include "hip_attn/core/host_device.hpp"

namespace hip_attn {

/// The blocks in front of the row's own become the list of its selection. The keys of its own
/// block, which the row sees in part, become the window that every selection ends with.
struct IndexedRow {
  std::int64_t position;  ///< in its request
  std::int64_t sink;
  int block_shift;  ///< log2(block_k)

  /// The last block that the row sees.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int64_t own_block() const noexcept {
    return position >> block_shift;
  }
  /// Whether the list has the block, 0 to own_block(). Blocks of the sink are attended anyway.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr bool lists(std::int64_t block) const noexcept {
    return block < own_block() && block << block_shift >= sink;
  }
  /// Without its own block a row has no key in the window.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int64_t window_start(
      bool has_own_block) const noexcept {
    const std::int64_t window = has_own_block ? own_block() << block_shift : position + 1;
    return window > sink ? window : sink;
  }
};

}  // namespace hip_attn
