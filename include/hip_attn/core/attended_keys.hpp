/// The keys that a unit attends to by index (docs/guide/algorithm.md, "What a row attends to"), and
/// the check of a selection that a caller gives.
#pragma once

#include <cstdint>

#include "hip_attn/core/host_device.hpp"

namespace hip_attn {

/// In ascending order: [0, sink_end), the blocks, [window_start, end). Where rows have a window of
/// their own, the row at position p sees the part of [window_start, end) that lies from
/// p + 1 - row_window on; INT32_MAX: rows have none.
struct AttendedKeys {
  std::int32_t sink_end;
  const std::int32_t* blocks;  ///< blocks[i] << start_shift is the first key of block i
  std::int32_t num_blocks;
  std::int32_t start_shift;  ///< block_shift of block numbers, 0 of first keys
  std::int32_t block_shift;  ///< log2(block_k)
  std::int32_t window_start;
  std::int32_t end;

  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t before_window() const noexcept {
    return sink_end + (num_blocks << block_shift);
  }
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t count() const noexcept {
    return before_window() + (end > window_start ? end - window_start : 0);
  }

  /// The first key of the window that the row at position p sees.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t row_window_start(
      std::int32_t p, std::int32_t row_window) const noexcept {
    const std::int32_t first = p + 1 - row_window;
    return first > window_start ? first : window_start;
  }

  /// Those of them that the row at position p sees.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr AttendedKeys until(
      std::int32_t p, std::int32_t row_window) const noexcept {
    AttendedKeys keys = *this;
    keys.end = p + 1;
    if (keys.sink_end > keys.end) keys.sink_end = keys.end;
    keys.window_start = row_window_start(p, row_window);
    return keys;
  }

  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t position(
      std::int32_t i) const noexcept {
    if (i < sink_end) return i;
    i -= sink_end;
    if (i < num_blocks << block_shift) {
      const std::int32_t within = i & ((1 << block_shift) - 1);
      return (blocks[i >> block_shift] << start_shift) + within;
    }
    return window_start + (i - (num_blocks << block_shift));
  }

  /// Keys from key i on, itself included, whose positions are neighbours in the same part.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t run_length(
      std::int32_t i) const noexcept {
    if (i < sink_end) return sink_end - i;
    const std::int32_t in_blocks = i - sink_end;
    if (in_blocks >= num_blocks << block_shift) return count() - i;
    return (1 << block_shift) - (in_blocks & ((1 << block_shift) - 1));
  }
};

// ---- A selection that a caller gives ------------------------------------------------------------

HIP_ATTN_HOST_DEVICE constexpr bool given_count_holds(std::int32_t count,
                                                      std::int64_t max_blocks) noexcept {
  return count >= 0 && count <= max_blocks;
}

/// The window starts at the sink, or behind it and at most one past the query block's first row,
/// which stands at position p0.
HIP_ATTN_HOST_DEVICE constexpr bool given_window_holds(std::int32_t w0, std::int32_t sink,
                                                       std::int32_t p0) noexcept {
  return w0 == sink || (w0 > sink && w0 <= p0 + 1);
}

/// A block of 2^block_shift keys by its number, and the block before it in the list: they lie
/// between sink and w0 and ascend.
HIP_ATTN_HOST_DEVICE constexpr bool given_block_holds(std::int32_t block, std::int32_t before,
                                                      bool is_first, std::int32_t sink,
                                                      std::int32_t w0, int block_shift) noexcept {
  const std::int64_t start = static_cast<std::int64_t>(block) * (std::int64_t{1} << block_shift);
  return (start >= sink) & (start + (std::int64_t{1} << block_shift) <= w0) &
         (is_first | (before < block));
}

}  // namespace hip_attn
