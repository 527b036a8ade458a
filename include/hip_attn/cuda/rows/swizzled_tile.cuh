/// Tiles in shared memory as the tensor cores of sm_90a read them.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/traits.hpp"

namespace hip_attn::cuda::sm90 {

/// The upper half of every descriptor (PTX ISA, "Matrix descriptor format"): groups of eight rows
/// are 1024 bytes apart; 128-byte swizzle.
inline constexpr std::uint64_t kSwizzledHigh = std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1}
                                                                                    << 62;

/// A tile [kRows][kHeadDim] of 16-bit elements as the tensor cores read it: column blocks of 64
/// elements one after the other, each [kRows][128 bytes], the 16-byte pieces of a row permuted by
/// the row's number (the 128-byte swizzle), so that neither eight pieces of a row nor one piece of
/// eight rows meet in a bank. The tile starts at a multiple of 1024 bytes.
template <int kRows, int kHeadDim>
struct SwizzledTile {
  static constexpr int kBytes = kRows * tile_dim(kHeadDim) * 2;
  static constexpr int kBlockBytes = kRows * 128;

  /// Where 16-byte piece `piece` of row `row` lies.
  __device__ static std::uint32_t offset(int row, int piece) {
    return piece / 8 * kBlockBytes + row * 128 + ((piece % 8) ^ (row % 8)) * 16;
  }

  /// What the lower halves of a tile's descriptors have in common, so that each is one addition
  /// away. `tile` is an address in shared memory.
  __device__ static std::uint32_t columns_of(std::uint32_t tile) { return tile >> 4 | 1u << 16; }
  __device__ static std::uint32_t rows_of(std::uint32_t tile) {
    constexpr std::uint32_t kLeading = kBlockBytes >> 4;  // from one column block to the next
    return tile >> 4 | kLeading << 16;
  }
  /// From one tile to another, `bytes` further, in the same units.
  __device__ static constexpr std::uint32_t step(int bytes) {
    return static_cast<std::uint32_t>(bytes >> 4);
  }

  /// Columns [16 i, 16 i + 16) of all rows, as an operand whose rows are the product's rows (A) or
  /// columns (B).
  __device__ static std::uint64_t columns(std::uint32_t columns_of_tile, int i) {
    return kSwizzledHigh | (columns_of_tile + step(i / 4 * kBlockBytes + i % 4 * 32));
  }

  /// Rows [16 i, 16 i + 16) of all columns, as a transposed B: the product sums over the tile's
  /// rows.
  __device__ static std::uint64_t rows(std::uint32_t rows_of_tile, int i) {
    return kSwizzledHigh | (rows_of_tile + step(i * 16 * 128));
  }
};

}  // namespace hip_attn::cuda::sm90
