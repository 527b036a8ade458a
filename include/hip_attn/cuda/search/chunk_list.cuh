/// The chunks that the stages of the search look at.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// The chunks that a stage looks at: chunk i of the cut survivors (or of all candidates) by number,
/// without writing them down.
struct ChunkList {
  const std::int32_t* parents;  ///< null: chunks of the whole range, from `first`
  std::int32_t first;
  std::int32_t count;
  int chunk_shift;   ///< log2 of the keys of a chunk
  int parent_shift;  ///< log2 of chunks in one parent

  __device__ std::int32_t chunk_size() const { return 1 << chunk_shift; }

  __device__ std::int32_t start(std::int32_t i) const {
    return start(i, [](const std::int32_t* parent) { return *parent; });
  }
  /// The same where parents are to be read in another way.
  template <typename Read>
  __device__ std::int32_t start(std::int32_t i, Read&& read) const {
    if (!parents) return first + (i << chunk_shift);
    const std::int32_t within = i & ((1 << parent_shift) - 1);
    return read(parents + (i >> parent_shift)) + (within << chunk_shift);
  }

  /// The chunks of [first, end).
  __device__ static ChunkList whole(std::int32_t first, std::int32_t end, int chunk_shift) {
    const std::int32_t count = (end - first + (1 << chunk_shift) - 1) >> chunk_shift;
    return {nullptr, first, count, chunk_shift, 0};
  }

  /// Cuts `count` parents of 2^size_shift keys; only the last can be cut short by `end`.
  __device__ static ChunkList cut(const std::int32_t* parents, std::int32_t count, int size_shift,
                                  int chunk_shift, std::int32_t end) {
    const int parent_shift = size_shift - chunk_shift;
    if (count == 0) return {parents, 0, 0, chunk_shift, parent_shift};
    const std::int32_t last_size = min(1 << size_shift, end - parents[count - 1]);
    const std::int32_t cut =
        ((count - 1) << parent_shift) + ((last_size + (1 << chunk_shift) - 1) >> chunk_shift);
    return {parents, 0, cut, chunk_shift, parent_shift};
  }
};

}  // namespace hip_attn::cuda
