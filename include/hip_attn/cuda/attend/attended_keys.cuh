/// The keys that a unit attends to, by index.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// The keys a unit attends to, in ascending order: [0, sink_end), blocks, [window_start, end).
/// Where rows have a window of their own, a row at position p sees the part of [window_start, end)
/// that lies from p + 1 - row_window on.
struct AttendedKeys {
  std::int32_t sink_end;
  const std::int32_t* blocks;  ///< blocks[i] << start_shift is the first key of block i
  std::int32_t num_blocks;
  std::int32_t start_shift;
  std::int32_t block_shift;  ///< log2(block_k)
  std::int32_t window_start;
  std::int32_t end;

  __device__ std::int32_t before_window() const { return sink_end + (num_blocks << block_shift); }
  __device__ std::int32_t count() const { return before_window() + max(0, end - window_start); }

  /// Those of them that the row at position p sees.
  __device__ AttendedKeys until(std::int32_t p, std::int32_t row_window) const {
    AttendedKeys keys = *this;
    keys.end = p + 1;
    keys.sink_end = min(sink_end, keys.end);
    keys.window_start = max(window_start, keys.end - row_window);
    return keys;
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

/// A block of a selection and the one before it, as their first keys stand in a list.
struct ListedBlock {
  std::int32_t start = 0;
  std::int32_t before = 0;  ///< of the first block: anything

  __device__ static ListedBlock read(const std::int32_t* list, std::int32_t number) {
    return {list[number], number > 0 ? list[number - 1] : 0};
  }
};

/// The same keys when nobody has looked at the list of blocks yet: who takes a key checks its
/// block.
struct UncheckedKeys : AttendedKeys {
  /// That key i lies in, if it lies in one.
  __device__ ListedBlock block_of(std::int32_t i) const {
    const std::int32_t number = (i - sink_end) >> block_shift;
    return 0 <= number && number < num_blocks ? ListedBlock::read(blocks, number) : ListedBlock{};
  }

  /// The position of key i, or -1 when no selection has its block.
  __device__ std::int32_t checked_position(std::int32_t i, ListedBlock block) const {
    const std::int32_t in_blocks = i - sink_end;
    const std::int32_t after_blocks = in_blocks - (num_blocks << block_shift);
    const std::int32_t within = (1 << block_shift) - 1;
    const std::int32_t start = block.start << start_shift;
    const bool first = in_blocks <= within;
    const bool holds = (start >= sink_end) & (start < window_start) &
                       (((start - sink_end) & within) == 0) &
                       (first | (block.before < block.start));
    std::int32_t position = holds ? start + (in_blocks & within) : -1;
    position = in_blocks < 0 ? i : position;
    return after_blocks >= 0 ? window_start + after_blocks : position;
  }
};

}  // namespace hip_attn::cuda
