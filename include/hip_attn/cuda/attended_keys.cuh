/// The keys that a unit attends to, by index.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// The keys a unit attends to, in ascending order: [0, sink_end), blocks, [window_start, end).
struct AttendedKeys {
  std::int32_t sink_end;
  const std::int32_t* blocks;  ///< blocks[i] << start_shift is the first key of block i
  std::int32_t num_blocks;
  std::int32_t start_shift;
  std::int32_t block_shift;  ///< log2(block_k)
  std::int32_t window_start;
  std::int32_t end;

  __device__ std::int32_t count() const {
    return sink_end + (num_blocks << block_shift) + max(0, end - window_start);
  }

  __device__ std::int32_t position(std::int32_t i) const {
    if (i < sink_end) return i;
    i -= sink_end;
    if (i < num_blocks << block_shift) {
      const auto within = i & ((1 << block_shift) - 1);
      return (blocks[i >> block_shift] << start_shift) + within;
    }
    return window_start + i - (num_blocks << block_shift);
  }
};

/// The same keys in the order in which decode comes to know them: the sink and the window that a
/// selection made now would leave, [recent_start, end), follow from the length; then the blocks;
/// then what a selection made earlier leaves of the window, [window_start, recent_start).
struct DecodeKeys {
  std::int32_t sink_end;
  std::int32_t recent_start;
  std::int32_t end;
  const std::int32_t* blocks;  ///< blocks[i] << start_shift is the first key of block i
  std::int32_t num_blocks;
  std::int32_t start_shift;
  std::int32_t block_shift;  ///< log2(block_k)
  std::int32_t window_start;

  /// Keys before the blocks.
  __device__ std::int32_t known() const { return sink_end + max(0, end - recent_start); }

  __device__ std::int32_t count() const {
    return known() + (num_blocks << block_shift) + recent_start - window_start;
  }

  __device__ std::int32_t position(std::int32_t i) const {
    const std::int32_t in_blocks = i - known();
    if (in_blocks < 0) return i < sink_end ? i : recent_start + i - sink_end;
    const std::int32_t after_blocks = in_blocks - (num_blocks << block_shift);
    if (after_blocks >= 0) return window_start + after_blocks;
    const auto within = in_blocks & ((1 << block_shift) - 1);
    return (blocks[in_blocks >> block_shift] << start_shift) + within;
  }
};

}  // namespace hip_attn::cuda
