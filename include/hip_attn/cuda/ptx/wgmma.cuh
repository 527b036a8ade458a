/// Matrix products of a warpgroup (wgmma) from tiles as SwizzledTile describes them. sm_90a alone:
/// for other architectures the functions exist and do nothing.
#pragma once

#include <cstdint>
#include <type_traits>

#include "hip_attn/cuda/rows/swizzled_tile.cuh"
#include "hip_attn/types.hpp"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HIP_ATTN_SM90A 1
#else
#define HIP_ATTN_SM90A 0
#endif

namespace hip_attn::cuda::sm90 {

/// Registers of products that follow were written before; ends with commit.
__device__ inline void wgmma_begin() {
#if HIP_ATTN_SM90A
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

__device__ inline void wgmma_commit() {
#if HIP_ATTN_SM90A
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/// Waits until at most kPending committed groups are unfinished.
template <int kPending>
__device__ inline void wgmma_wait() {
#if HIP_ATTN_SM90A
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#endif
}

// The registers of a 64 x N product as operands 0 to N / 2 - 1.
#define HIP_ATTN_D8(d, i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define HIP_ATTN_D32(d, i) \
  HIP_ATTN_D8(d, i), HIP_ATTN_D8(d, i + 8), HIP_ATTN_D8(d, i + 16), HIP_ATTN_D8(d, i + 24)
#define HIP_ATTN_N0_31                                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22," \
  "%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define HIP_ATTN_N32_47 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define HIP_ATTN_N48_63 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define HIP_ATTN_N64_79 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define HIP_ATTN_N80_95 ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define HIP_ATTN_N96_111 \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define HIP_ATTN_N112_127 \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

/// d [64 x 64] = a b, or d += a b with `accumulate`; a and b are SwizzledTile::columns.
template <typename T>
__device__ inline void wgmma_64x64(float (&d)[32], std::uint64_t a, std::uint64_t b,
                                   bool accumulate) {
#if HIP_ATTN_SM90A
#define HIP_ATTN_WGMMA_SHARED(type)                                                    \
  asm volatile(                                                                        \
      "{\n .reg .pred p;\n setp.ne.b32 p, %34, 0;\n"                                   \
      " wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" HIP_ATTN_N0_31 \
      "}, %32, %33, p, 1, 1, 0, 0;\n}"                                                 \
      : HIP_ATTN_D32(d, 0)                                                             \
      : "l"(a), "l"(b), "r"(static_cast<std::int32_t>(accumulate)))
  if constexpr (std::is_same_v<T, float16>) {
    HIP_ATTN_WGMMA_SHARED("f16");
  } else {
    HIP_ATTN_WGMMA_SHARED("bf16");
  }
#undef HIP_ATTN_WGMMA_SHARED
#endif
}

/// The same with a [64 x 16] in registers, as products leave their results.
template <typename T>
__device__ inline void wgmma_64x64(float (&d)[32], const std::uint32_t (&a)[4], std::uint64_t b,
                                   bool accumulate) {
#if HIP_ATTN_SM90A
#define HIP_ATTN_WGMMA_REGISTERS(type)                                                 \
  asm volatile(                                                                        \
      "{\n .reg .pred p;\n setp.ne.b32 p, %37, 0;\n"                                   \
      " wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" HIP_ATTN_N0_31 \
      "}, {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}"                                      \
      : HIP_ATTN_D32(d, 0)                                                             \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                            \
        "r"(static_cast<std::int32_t>(accumulate)))
  if constexpr (std::is_same_v<T, float16>) {
    HIP_ATTN_WGMMA_REGISTERS("f16");
  } else {
    HIP_ATTN_WGMMA_REGISTERS("bf16");
  }
#undef HIP_ATTN_WGMMA_REGISTERS
#endif
}

/// The same for 32 rows of b.
template <typename T>
__device__ inline void wgmma_64x32(float (&d)[16], const std::uint32_t (&a)[4], std::uint64_t b,
                                   bool accumulate) {
#if HIP_ATTN_SM90A
#define HIP_ATTN_WGMMA_REGISTERS(type)                                                \
  asm volatile(                                                                       \
      "{\n .reg .pred p;\n setp.ne.b32 p, %21, 0;\n"                                  \
      " wgmma.mma_async.sync.aligned.m64n32k16.f32." type "." type                    \
      " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, " \
      "%20, p, 1, 1, 0;\n}"                                                           \
      : HIP_ATTN_D8(d, 0), HIP_ATTN_D8(d, 8)                                          \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                           \
        "r"(static_cast<std::int32_t>(accumulate)))
  if constexpr (std::is_same_v<T, float16>) {
    HIP_ATTN_WGMMA_REGISTERS("f16");
  } else {
    HIP_ATTN_WGMMA_REGISTERS("bf16");
  }
#undef HIP_ATTN_WGMMA_REGISTERS
#endif
}

/// d [64 x N] += a b with a [64 x 16] in registers, as products leave their results, and b
/// SwizzledTile::rows; N = 64 to 256 in steps of 32.
template <typename T, int kHalfN>
__device__ inline void wgmma_64xN(float (&d)[kHalfN], const std::uint32_t (&a)[4],
                                  std::uint64_t b) {
#if HIP_ATTN_SM90A
#define HIP_ATTN_WGMMA_REGISTERS(n, type, names, a0, a1, a2, a3, descriptor, registers)            \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" names "}, {" a0 \
               "," a1 "," a2 "," a3 "}, " descriptor ", 1, 1, 1, 1;"                               \
               : registers                                                                         \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define HIP_ATTN_D16(d, i) HIP_ATTN_D8(d, i), HIP_ATTN_D8(d, i + 8)
#define HIP_ATTN_D48(d) HIP_ATTN_D32(d, 0), HIP_ATTN_D16(d, 32)
#define HIP_ATTN_D64(d) HIP_ATTN_D48(d), HIP_ATTN_D16(d, 48)
#define HIP_ATTN_D80(d) HIP_ATTN_D64(d), HIP_ATTN_D16(d, 64)
#define HIP_ATTN_D96(d) HIP_ATTN_D80(d), HIP_ATTN_D16(d, 80)
#define HIP_ATTN_D112(d) HIP_ATTN_D96(d), HIP_ATTN_D16(d, 96)
#define HIP_ATTN_D128(d) HIP_ATTN_D112(d), HIP_ATTN_D16(d, 112)
#define HIP_ATTN_N0_47 HIP_ATTN_N0_31 HIP_ATTN_N32_47
#define HIP_ATTN_N0_63 HIP_ATTN_N0_47 HIP_ATTN_N48_63
#define HIP_ATTN_N0_79 HIP_ATTN_N0_63 HIP_ATTN_N64_79
#define HIP_ATTN_N0_95 HIP_ATTN_N0_79 HIP_ATTN_N80_95
#define HIP_ATTN_N0_111 HIP_ATTN_N0_95 HIP_ATTN_N96_111
#define HIP_ATTN_N0_127 HIP_ATTN_N0_111 HIP_ATTN_N112_127
#define HIP_ATTN_WGMMA_OF_TYPE(type)                                                               \
  if constexpr (kHalfN == 32) {                                                                    \
    HIP_ATTN_WGMMA_REGISTERS("64", type, HIP_ATTN_N0_31, "%32", "%33", "%34", "%35", "%36",        \
                             HIP_ATTN_D32(d, 0));                                                  \
  } else if constexpr (kHalfN == 48) {                                                             \
    HIP_ATTN_WGMMA_REGISTERS("96", type, HIP_ATTN_N0_47, "%48", "%49", "%50", "%51", "%52",        \
                             HIP_ATTN_D48(d));                                                     \
  } else if constexpr (kHalfN == 64) {                                                             \
    HIP_ATTN_WGMMA_REGISTERS("128", type, HIP_ATTN_N0_63, "%64", "%65", "%66", "%67", "%68",       \
                             HIP_ATTN_D64(d));                                                     \
  } else if constexpr (kHalfN == 80) {                                                             \
    HIP_ATTN_WGMMA_REGISTERS("160", type, HIP_ATTN_N0_79, "%80", "%81", "%82", "%83", "%84",       \
                             HIP_ATTN_D80(d));                                                     \
  } else if constexpr (kHalfN == 96) {                                                             \
    HIP_ATTN_WGMMA_REGISTERS("192", type, HIP_ATTN_N0_95, "%96", "%97", "%98", "%99", "%100",      \
                             HIP_ATTN_D96(d));                                                     \
  } else if constexpr (kHalfN == 112) {                                                            \
    HIP_ATTN_WGMMA_REGISTERS("224", type, HIP_ATTN_N0_111, "%112", "%113", "%114", "%115", "%116", \
                             HIP_ATTN_D112(d));                                                    \
  } else if constexpr (kHalfN == 128) {                                                            \
    HIP_ATTN_WGMMA_REGISTERS("256", type, HIP_ATTN_N0_127, "%128", "%129", "%130", "%131", "%132", \
                             HIP_ATTN_D128(d));                                                    \
  } else {                                                                                         \
    static_assert(kHalfN == 0, "N is 64 to 256 in steps of 32");                                   \
  }
  if constexpr (std::is_same_v<T, float16>) {
    HIP_ATTN_WGMMA_OF_TYPE("f16")
  } else {
    HIP_ATTN_WGMMA_OF_TYPE("bf16")
  }
#undef HIP_ATTN_WGMMA_OF_TYPE
#undef HIP_ATTN_N0_127
#undef HIP_ATTN_N0_111
#undef HIP_ATTN_N0_95
#undef HIP_ATTN_N0_79
#undef HIP_ATTN_N0_63
#undef HIP_ATTN_N0_47
#undef HIP_ATTN_D128
#undef HIP_ATTN_D112
#undef HIP_ATTN_D96
#undef HIP_ATTN_D80
#undef HIP_ATTN_D64
#undef HIP_ATTN_D48
#undef HIP_ATTN_D16
#undef HIP_ATTN_WGMMA_REGISTERS
#endif
}

#undef HIP_ATTN_N112_127
#undef HIP_ATTN_N96_111
#undef HIP_ATTN_N80_95
#undef HIP_ATTN_N64_79
#undef HIP_ATTN_N48_63
#undef HIP_ATTN_N32_47
#undef HIP_ATTN_N0_31
#undef HIP_ATTN_D32
#undef HIP_ATTN_D8

}  // namespace hip_attn::cuda::sm90
