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

}  // namespace hip_attn::cuda
