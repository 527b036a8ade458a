/// Tiles of 16 rows, of keys or of values, in shared memory: filled by asynchronous copies, so that
/// a warp can have several on the way and hold none of them in registers.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"

namespace hip_attn::cuda {

inline constexpr int kKeysPerTile = 16;

/// Bytes of 16 rows of keys or values, and of both.
template <int kHeadDim>
inline constexpr int kTileBytes = kKeysPerTile* tile_dim(kHeadDim) * 2;
__host__ __device__ constexpr int slot_bytes(int head_dim) {
  return 2 * kKeysPerTile * tile_dim(head_dim) * 2;
}

/// A tile of one warp. Copies are made, and must have arrived, in all lanes before a lane reads:
/// __syncwarp() after the wait.
///
/// The 16-byte pieces of a row are permuted in groups of eight by a number that differs between
/// rows 0 to 7, and in its highest bit between rows 2m and 2m + 1: eight lanes that write one row,
/// read four pieces of two neighbouring rows each (mma of keys) or one piece of eight rows each
/// (matrix loads of values) use all banks once.
template <typename Traits>
class SharedTile {
 public:
  using Element = typename Traits::Element;
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;

  __device__ explicit SharedTile(std::byte* memory) : address_(shared_address(memory)) {}

  /// Addresses of the rows that one lane copies: 2m, 2m + 1, 2m + 8, 2m + 9 for m = lane / 8.
  struct Rows {
    const Stored* row[4];

    /// Of tile `tile` of a list.
    __device__ static Rows from_list(std::uint32_t list, int tile) {
      list += tile * kKeysPerTile * 8;
      const int m = static_cast<int>(threadIdx.x % 32) / 8;
      Rows rows;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        load_shared_addresses(list + (2 * m + 8 * half) * 8, rows.row[2 * half],
                              rows.row[2 * half + 1]);
      }
      return rows;
    }

    __device__ Rows operator+(std::ptrdiff_t bytes) const {
      Rows moved = *this;
#pragma unroll
      for (const Stored*& row : moved.row) {
        row = reinterpret_cast<const Stored*>(reinterpret_cast<const std::byte*>(row) + bytes);
      }
      return moved;
    }
  };

  /// Lanes tell one another the rows that they looked up, 16 for each of two tiles, in kListBytes
  /// of shared memory, complete after __syncwarp(). Returns where.
  static constexpr int kListBytes = 32 * 8;
  __device__ static std::uint32_t list(std::byte* memory, const Stored* row) {
    const std::uint32_t rows = shared_address(memory);
    store_shared_8(rows + threadIdx.x % 32 * 8, row);
    return rows;
  }

  /// Starts to copy whole rows, of which each exists. Eight lanes copy 128 bytes of a row at once,
  /// which is what one request to L2 can bring: with 64 bytes for each, decode of 1M tokens took 92
  /// instead of 80 us (H200).
  __device__ void copy(const Rows& rows) const {
    each_piece(rows, [](std::uint32_t to, const Stored* from, int) { Loader::copy(to, from); });
  }

  /// The same of the first `count` rows; the others become zeros.
  __device__ void copy(const Rows& rows, std::int32_t count) const {
    each_piece(rows, [&](std::uint32_t to, const Stored* from, int row) {
      Loader::copy(to, from, row < count);
    });
  }

  /// Eight query rows as this lane gives them to a product. A product sums over the head dim in any
  /// order, so that a lane takes 16 bytes of a row at a time.
  struct Queries {
    uint4 piece[kHeadDim / 32];

    __device__ Queries(const Element* queries, int pitch)
        : Queries(queries + static_cast<int>(threadIdx.x % 32) / 4 * pitch) {}

    /// query: the row with number lane / 4.
    __device__ explicit Queries(const Element* query) {
      query += threadIdx.x % 4 * 8;
#pragma unroll
      for (int i = 0; i < kHeadDim / 32; ++i) {
        piece[i] = *reinterpret_cast<const uint4*>(query + i * 32);
      }
    }
  };

  /// c = keys [16] x query rows [8]: c[0], c[1] are key g with rows 2t, 2t + 1, c[2], c[3] key g
  /// + 8.
  __device__ void multiply(const Queries& queries, float (&c)[4]) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int g = lane / 4;
    const std::uint32_t even = address_ + g * kRowBytes + (((lane % 4) ^ permutation(g)) * 16);
    float odd[4] = {};  // two chains of products: half the latency
    c[0] = c[1] = c[2] = c[3] = 0.f;
#pragma unroll
    for (int i = 0; i < kHeadDim / 32; ++i) {
      const uint4 b = queries.piece[i];
      const std::uint32_t at = (i % 2 == 0 ? even : even ^ 64u) + i / 2 * 128;
      const uint4 upper = load_shared_16(at);
      const uint4 lower = load_shared_16(at + 8 * kRowBytes);
      mma_16x8x16<Element>(c, upper.x, lower.x, upper.y, lower.y, b.x, b.y);
      mma_16x8x16<Element>(odd, upper.z, lower.z, upper.w, lower.w, b.z, b.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] += odd[i];
  }

  /// One element, and a row made zeros.
  __device__ float element(int row, int column) const {
    std::uint16_t bits;
    asm volatile("ld.shared.u16 %0, [%1];"
                 : "=h"(bits)
                 : "r"(piece_address(row, column / 8) + column % 8 * 2)
                 : "memory");
    return widen(Element{bits});
  }
  __device__ void clear_row(int row) const {
    const int piece = static_cast<int>(threadIdx.x % 32);
    if (piece >= kHeadDim / 8) return;
    clear(piece_address(row, piece));
  }

  /// The columns from 16 * m on of all rows, transposed: the left factor of an mma.
  __device__ void load_transposed(int m, std::uint32_t (&a)[4]) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int row = lane / 16 * 8 + lane % 8;
    const std::uint32_t first =
        address_ + row * kRowBytes + (((lane / 8 % 2) ^ permutation(row)) * 16);
    load_matrices_transposed(a, (first ^ (m % 4 * 32u)) + m / 4 * 128);
  }

 private:
  /// put(to, from, row) for each piece of eight elements that this lane copies.
  template <typename Put>
  __device__ void each_piece(const Rows& rows, Put&& put) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int m = lane / 8;
    const int piece = lane % 8;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int p = i % 2;
      const Stored* const source = rows.row[i] + piece * 8;
      const std::uint32_t to =
          address_ + 2 * m * kRowBytes + ((piece ^ m ^ (p * 4)) * 16) + (p + i / 2 * 8) * kRowBytes;
#pragma unroll
      for (int h = 0; h < kTileDim / 64; ++h) {
        if (kHeadDim % 64 != 0 && h * 64 + piece * 8 >= kHeadDim) continue;
        put(to + h * 128, source + h * 64, 2 * m + p + i / 2 * 8);
      }
    }
  }

  static constexpr int kTileDim = tile_dim(kHeadDim);
  static constexpr int kRowBytes = kTileDim * 2;  // XOR of an address needs multiples of 128

  __device__ static void clear(std::uint32_t address) {
    asm volatile("st.shared.v4.u32 [%0], {%1,%1,%1,%1};" ::"r"(address), "r"(0) : "memory");
  }
  __device__ std::uint32_t piece_address(int row, int piece) const {
    return address_ + row * kRowBytes + (piece ^ permutation(row)) * 16;
  }
  __device__ static int permutation(int row) { return (row % 2 * 4) | (row / 2 % 4); }

  std::uint32_t address_;
};

}  // namespace hip_attn::cuda
