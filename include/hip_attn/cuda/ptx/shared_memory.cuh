/// Reads and writes of shared memory by its own addresses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hip_attn::cuda {

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

__device__ inline void store_shared_16(std::uint32_t address, const uint4& value) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

__device__ inline std::int32_t load_shared_int(std::uint32_t address) {
  std::int32_t value;
  asm volatile("ld.shared.s32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

/// Addresses of global memory that are kept in shared memory.
__device__ inline void store_shared_8(std::uint32_t address, const void* value) {
  asm volatile("st.shared.u64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
}
template <typename T>
__device__ inline const T* load_shared_address(std::uint32_t address) {
  const T* value;
  asm volatile("ld.shared.u64 %0, [%1];" : "=l"(value) : "r"(address) : "memory");
  return value;
}
template <typename T>
__device__ inline void load_shared_addresses(std::uint32_t address, const T*& first,
                                             const T*& second) {
  asm volatile("ld.shared.v2.u64 {%0,%1}, [%2];"
               : "=l"(first), "=l"(second)
               : "r"(address)
               : "memory");
}

}  // namespace hip_attn::cuda
