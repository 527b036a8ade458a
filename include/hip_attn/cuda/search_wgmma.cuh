/// Scores of keys for the search by wgmma (compute capability 9.0 alone).
#pragma once

#include <cstdint>

#include "hip_attn/cuda/mma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HIP_ATTN_HAS_WGMMA 1
#else
#define HIP_ATTN_HAS_WGMMA 0
#endif

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
#if HIP_ATTN_HAS_WGMMA
    const std::uint32_t address = shared_address(queries) + row * 128;
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
      const std::uint32_t block = address + i / 2 * padded_rows * 128 + i % 2 * 64;
      multiply_step(c, keys[0][i].x, keys[1][i].x, keys[0][i].y, keys[1][i].y, descriptor(block),
                    i > 0);
      multiply_step(c, keys[0][i].z, keys[1][i].z, keys[0][i].w, keys[1][i].w,
                    descriptor(block + 32), 1);
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
    for (float& each : c) asm volatile("" : "+f"(each)::"memory");
#else
    __trap();
#endif
  }

#if HIP_ATTN_HAS_WGMMA
  /// Of a matrix in shared memory whose rows are 128 bytes apart, with the 128-byte swizzle.
  __device__ static std::uint64_t descriptor(std::uint32_t address) {
    constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
    constexpr std::uint64_t kEightRows = std::uint64_t{1024 / 16} << 32;
    constexpr std::uint64_t kUnused = std::uint64_t{1} << 16;
    return kSwizzle128 | kEightRows | kUnused | (address & 0x3ffffu) >> 4;
  }

  /// c (+)= sixteen columns of 64 keys x 64 query rows.
  __device__ static void multiply_step(float (&c)[32], std::uint32_t a0, std::uint32_t a1,
                                       std::uint32_t a2, std::uint32_t a3, std::uint64_t queries,
                                       int accumulate) {
#define HIP_ATTN_WGMMA(type)                                                                       \
  asm volatile(                                                                                    \
      "{\n .reg .pred p;\n setp.ne.b32 p, %37, 0;\n"                                               \
      " wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                                 \
      " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"   \
      "%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}"                   \
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]),        \
        "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]),    \
        "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), \
        "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), \
        "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31])                                         \
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(queries), "r"(accumulate))
    if constexpr (std::is_same_v<T, float16>) {
      HIP_ATTN_WGMMA("f16");
    } else {
      HIP_ATTN_WGMMA("bf16");
    }
#undef HIP_ATTN_WGMMA
  }
#endif
};

}  // namespace hip_attn::cuda
