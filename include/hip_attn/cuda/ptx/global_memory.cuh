/// Reads of global memory with a predicate or a cache policy.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

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

__device__ inline void prefetch_to_l2(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/// 16 bytes that nobody writes during the kernel and that are read once: they stay out of L1.
__device__ inline uint4 read_streaming_16(const void* p) {
  uint4 r;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "l"(p));
  return r;
}

/// 16 bytes that other thread blocks may have written, past L1. Asked for here: the compiler does
/// not move it behind a wait.
__device__ inline uint4 read_from_l2_16(const void* p) {
  uint4 r;
  asm volatile("ld.global.cg.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "l"(p)
               : "memory");
  return r;
}

}  // namespace hip_attn::cuda
