/// How rows of a cache become rows of a tile.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/traits.hpp"

namespace hip_attn::cuda {

/// The loader of a cache that stores what products read. Every loader has these members. It moves
/// pieces of eight neighbouring elements of a row, which are 16 bytes of a tile, each by one
/// thread.
///
/// A loader that converts (from 8 bits, say) writes a piece with an ordinary store where this one
/// starts an asynchronous copy, and says so by kCopiesAsync. Whoever waits for copies also meets at
/// a barrier before the tile is read, which is enough for both.
template <typename T>
struct CopyLoader {
  using Stored = T;   ///< element of the cache
  using Element = T;  ///< element of a tile
  static constexpr bool kCopiesAsync = true;

  /// Starts to write the piece that begins at `from` to shared memory.
  __device__ static void copy(std::uint32_t to, const Stored* from) { copy_async_16(to, from); }
  /// The same where `wanted`, else zeros; `from` is an address that exists in any case.
  __device__ static void copy(std::uint32_t to, const Stored* from, bool wanted) {
    copy_async_16(to, from, wanted);
  }
  /// The piece in registers, of a row that is read once.
  __device__ static uint4 read(const Stored* from) { return read_streaming_16(from); }
  /// One element, as products see it.
  __device__ static float element(const Stored* from) { return widen(*from); }
};

}  // namespace hip_attn::cuda
