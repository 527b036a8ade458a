/// Inline-PTX wrappers: tensor-core products, matrix loads, asynchronous copies (sm_80 and newer).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// CUDA's own type for an element type of the library; the layouts are the same.
template <typename T>
struct NativeOf;
template <>
struct NativeOf<float16> {
  using Scalar = __half;
  using Pair = __half2;
};
template <>
struct NativeOf<bfloat16> {
  using Scalar = __nv_bfloat16;
  using Pair = __nv_bfloat162;
};

__device__ inline float widen(float16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float widen(bfloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }

template <typename T>
__device__ inline T narrow(float x) {
  if constexpr (std::is_same_v<T, float16>) {
    return {__half_as_ushort(__float2half_rn(x))};
  } else {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  }
}

/// {low, high} rounded to T in one register.
template <typename T>
__device__ inline std::uint32_t narrow_pair(float low, float high) {
  std::uint32_t pair;
  if constexpr (std::is_same_v<T, float16>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

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

/// x, found here: nvcc neither moves it to where it is used nor finds it again there. ptxas still
/// may, where registers are few.
__device__ inline std::int32_t in_register(std::int32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}

__device__ inline std::uint32_t in_register(std::uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}
template <typename P>
__device__ inline P* in_register(P* p) {
  asm volatile("" : "+l"(p));
  return p;
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

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

__device__ inline uint4 load_shared_16(std::uint32_t address) {
  uint4 r;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(address)
               : "memory");
  return r;
}

/// The same where `wanted`; otherwise `value` stays.
__device__ inline void read_shared(float4& value, std::uint32_t address, bool wanted) {
  asm volatile(
      "{\n"
      " .reg .pred wanted;\n"
      " setp.ne.u32 wanted, %5, 0;\n"
      " @wanted ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];\n"
      "}"
      : "+f"(value.x), "+f"(value.y), "+f"(value.z), "+f"(value.w)
      : "r"(address), "r"(static_cast<int>(wanted))
      : "memory");
}
__device__ inline void read_shared(float2& value, std::uint32_t address, bool wanted) {
  asm volatile(
      "{\n"
      " .reg .pred wanted;\n"
      " setp.ne.u32 wanted, %3, 0;\n"
      " @wanted ld.shared.v2.f32 {%0,%1}, [%2];\n"
      "}"
      : "+f"(value.x), "+f"(value.y)
      : "r"(address), "r"(static_cast<int>(wanted))
      : "memory");
}

/// Addresses in shared memory.
__device__ inline void store_shared_8(std::uint32_t address, const void* value) {
  asm volatile("st.shared.u64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
}
__device__ inline void load_shared_addresses(std::uint32_t address, const std::byte*& first,
                                             const std::byte*& second) {
  asm volatile("ld.shared.v2.u64 {%0,%1}, [%2];"
               : "=l"(first), "=l"(second)
               : "r"(address)
               : "memory");
}

/// Copies 16 bytes to shared memory, or writes zeros when `valid` is false, without waiting.
__device__ inline void copy_async_16(std::uint32_t to, const void* from, bool valid) {
  const int size = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(size)
               : "memory");
}

__device__ inline void copy_async_16(std::uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/// Closes this thread's group of copies; a group may be empty.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits for all of this thread's groups but the `kPending` latest.
template <int kPending>
__device__ inline void wait_for_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// 2^x to two units in the last place, without exp2f's care for results below 2^-126: these are 0.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Waits for this thread's copies.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// value = *p where `wanted`, for what nobody writes during the kernel.
__device__ inline void read_in_place(std::int32_t& value, const std::int32_t* p, bool wanted) {
  asm volatile(
      "{\n"
      " .reg .pred wanted;\n"
      " setp.ne.u32 wanted, %2, 0;\n"
      " @wanted ld.global.nc.s32 %0, [%1];\n"
      "}"
      : "+r"(value)
      : "l"(p), "r"(static_cast<int>(wanted)));
}

/// value = *p where `wanted`.
__device__ inline void read_where(std::int32_t& value, const std::int32_t* p, bool wanted) {
  asm volatile(
      "{\n"
      " .reg .pred wanted;\n"
      " setp.ne.u32 wanted, %2, 0;\n"
      " @wanted ld.global.s32 %0, [%1];\n"
      "}"
      : "+r"(value)
      : "l"(p), "r"(static_cast<int>(wanted)));
}

/// *p, which another kernel may be writing: from L2, and never from or to L1.
__device__ inline std::int32_t read_hint(const std::int32_t* p) {
  std::int32_t value;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(p));
  return value;
}

/// 16 bytes that nobody writes during the kernel and that are read once: they stay out of L1.
__device__ inline uint4 read_streaming_16(const void* p) {
  uint4 r;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "l"(p));
  return r;
}

}  // namespace hip_attn::cuda
