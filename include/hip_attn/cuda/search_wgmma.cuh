/// Scores of keys for the search by wgmma (compute capability 9.0 alone).
#pragma once

#include <cstdint>

#include "hip_attn/cuda/hopper/wgmma.cuh"
#include "hip_attn/cuda/mma.cuh"

namespace hip_attn::cuda {

/// Pooled rows of queries in shared memory, 64 columns (128 bytes) of all rows after another, with
/// the 128-byte swizzle. The words of every four pieces are transposed: keys that lie in registers
/// as they lie in memory, as 16 bytes in every 64 to a lane, then meet the same columns.
template <int kHeadDim>
struct WgmmaQueries {
  static constexpr int kRowTile = 64;

  __host__ __device__ static constexpr int padded(int rows) {
    return (rows + kRowTile - 1) / kRowTile * kRowTile;
  }

  /// Where word w of piece p of a row lies, in words.
  __device__ static constexpr int word(int row, int piece, int w, int padded_rows) {
    const int column = piece / 4 * 4 + w;  // in pieces
    return (column / 8 * padded_rows + row) * 32 + ((column % 8) ^ (row % 8)) * 4 + piece % 4;
  }
};

/// a(j) of 64 keys per four warps, the rows of the product: lane (g, t) of a warp holds 16 bytes in
/// every 64 of keys g and g + 8 of its sixteen, and quad g gets their scores. The queries come from
/// shared memory without passing through registers, which is why this is faster than search_mma.cuh
/// although its warps score half as many keys at once.
template <typename T, int kHeadDim>
struct WarpgroupScorer {
  using Layout = WgmmaQueries<kHeadDim>;
  static constexpr int kKeysPerQuad = 2;
  static constexpr int kWarpsTogether = 4;
  static constexpr int kSegments = kHeadDim / 32;

  const std::uint32_t* queries;  ///< in the order of WgmmaQueries, 1024-byte aligned
  int padded_rows;

  /// Every lane brings the rows of its quad's keys and gets their scores. `meanwhile` is called
  /// when the keys have been asked for.
  template <typename Meanwhile>
  __device__ void operator()(const T* const (&rows)[2], float (&scores)[2],
                             Meanwhile&& meanwhile) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    uint4 keys[2][kSegments];
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
#pragma unroll
      for (int n = 0; n < 2; ++n) keys[n][i] = read_streaming_16(rows[n] + i * 32 + lane % 4 * 8);
    }
    meanwhile();
    float best[2] = {-INFINITY, -INFINITY};
#pragma unroll 1
    for (int row = 0; row < padded_rows; row += Layout::kRowTile) {
      float c[Layout::kRowTile / 2];
      multiply(keys, row, c);
#pragma unroll
      for (int n = 0; n < Layout::kRowTile / 2; n += 4) {  // fmaxf passes NaN over
        best[0] = fmaxf(best[0], fmaxf(c[n], c[n + 1]));
        best[1] = fmaxf(best[1], fmaxf(c[n + 2], c[n + 3]));
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int lanes = 1; lanes <= 2; lanes *= 2) {
        best[n] = fmaxf(best[n], __shfl_xor_sync(0xffffffffu, best[n], lanes));
      }
      scores[n] = best[n];
    }
  }

 private:
  /// c[4 n], c[4 n + 1] = key g with query rows row + 8 n + 2 t and the next; c[4 n + 2], c[4 n +
  /// 3] the same of key g + 8.
  __device__ void multiply(const uint4 (&keys)[2][kSegments], int row,
                           float (&c)[Layout::kRowTile / 2]) const {
    const std::uint32_t address = shared_address(queries) + row * 128;
    hopper::wgmma_begin();
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
      const std::uint32_t block = address + i / 2 * padded_rows * 128 + i % 2 * 64;
      const uint4& upper = keys[0][i];
      const uint4& lower = keys[1][i];
      hopper::wgmma_64x64<T>(c, {upper.x, lower.x, upper.y, lower.y},
                             hopper::swizzled_columns(block), i > 0);
      hopper::wgmma_64x64<T>(c, {upper.z, lower.z, upper.w, lower.w},
                             hopper::swizzled_columns(block + 32), true);
    }
    hopper::wgmma_commit();
    hopper::wgmma_wait<0>();
#pragma unroll
    for (float& each : c) asm volatile("" : "+f"(each)::"memory");
  }
};

}  // namespace hip_attn::cuda
