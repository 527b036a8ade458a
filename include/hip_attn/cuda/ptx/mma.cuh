/// Tensor-core products of a warp and the matrix loads that feed them (sm_80 and newer).
#pragma once

#include <cstdint>
#include <type_traits>

#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// c[16 x 8] += a[16 x 16] b[16 x 8], fp32 accumulation. With g = lane / 4 and t = lane % 4:
/// a0, a2 hold row g (columns 2t, 2t+1 and 2t+8, 2t+9), a1, a3 row g + 8; b0, b1 hold column g
/// (rows 2t, 2t+1 and 2t+8, 2t+9); c0, c1 are (g, 2t), (g, 2t+1), c2, c3 the same of row g + 8.
template <typename T>
__device__ inline void mma_16x8x16(float (&c)[4], std::uint32_t a0, std::uint32_t a1,
                                   std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                                   std::uint32_t b1) {
  if constexpr (std::is_same_v<T, float16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

/// Four 8 x 8 matrices of 16-bit elements from shared memory, each transposed on the way; lane i
/// gives the address of row i % 8 of matrix i / 8.
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// The same, as they lie.
__device__ inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// Transposes an 8 x 8 matrix of 16-bit elements held as mma holds them.
__device__ inline std::uint32_t transpose_8x8(std::uint32_t x) {
  std::uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

}  // namespace hip_attn::cuda
