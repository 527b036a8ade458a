/// The chunks that the stages of the search look at.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// The chunk size that stage 1 uses on `candidates` keys: its own, doubled until at most `most`
/// chunks remain (docs/guide/algorithm.md, "Sub-quadratic for real").
__device__ inline std::int32_t first_chunk_size(std::int32_t chunk_size, std::int32_t most,
                                                std::int32_t candidates) {
  auto size = static_cast<std::uint32_t>(chunk_size);
  while (static_cast<std::uint32_t>(candidates) >
         static_cast<std::uint32_t>(most) * std::uint64_t{size}) {
    size *= 2;
  }
  return static_cast<std::int32_t>(size);
}

/// The chunks that a stage looks at: chunk i of the cut survivors (or of all candidates) by number,
/// without writing them down.
struct ChunkList {
  const std::int32_t* parents;  ///< null: chunks of the whole range, from `first`
  std::int32_t first;
  std::int32_t count;
  std::int32_t chunk_size;
  int parent_shift;  ///< log2 of chunks in one parent

  __device__ std::int32_t start(std::int32_t i) const {
    if (!parents) return static_cast<std::int32_t>(first + i * chunk_size);
    const std::int32_t within = i & ((1 << parent_shift) - 1);
    return parents[i >> parent_shift] + static_cast<std::int32_t>(within * chunk_size);
  }

  /// Cuts `count` parents of parent_size; only the last can be cut short by `end`.
  __device__ static ChunkList cut(const std::int32_t* parents, std::int32_t count,
                                  std::int32_t parent_size, std::int32_t chunk_size,
                                  std::int32_t end) {
    const int chunk_shift = __ffs(chunk_size) - 1;
    const int shift = __ffs(parent_size) - 1 - chunk_shift;
    if (count == 0) return {parents, 0, 0, chunk_size, shift};
    const std::int32_t last = parents[count - 1];
    const std::int32_t last_size = min(parent_size, end - last);
    const std::int32_t cut = ((count - 1) << shift) + ((last_size + chunk_size - 1) >> chunk_shift);
    return {parents, 0, cut, chunk_size, shift};
  }
};

}  // namespace hip_attn::cuda
