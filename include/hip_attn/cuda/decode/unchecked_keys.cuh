/// The keys that a unit of decode attends to, before anybody has looked at the list of its blocks.
#pragma once

#include <cstdint>

#include "hip_attn/core/attended_keys.hpp"

namespace hip_attn::cuda {

/// A block of a selection and the one before it, as their first keys stand in a list.
struct ListedBlock {
  std::int32_t start = 0;
  std::int32_t before = 0;  ///< of the first block: anything

  __device__ static ListedBlock read(const std::int32_t* list, std::int32_t number) {
    return {list[number], number > 0 ? list[number - 1] : 0};
  }
};

/// Attended keys of which each is checked with its block when it is taken.
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
