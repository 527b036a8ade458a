// Vectors of fp32 as wide as the instruction set that this is compiled for, and what the CPU
// backend's kernels do with single ones. Everything has internal linkage and nothing of the
// standard library is instantiated here: a weak symbol compiled for AVX-512 must never be the one
// that the linker keeps for a machine without it.
#pragma once

#include <cstdint>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "hip_attn/cpu/exponential.hpp"
#include "hip_attn/types.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#define HIP_ATTN_UNROLL _Pragma("GCC unroll 16")
#else
#define HIP_ATTN_UNROLL _Pragma("unroll")
#endif

namespace hip_attn::cpu::HIP_ATTN_CPU_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
constexpr float kInfinity = __builtin_inff();

using Vec = float __attribute__((vector_size(kWidth * 4), may_alias));
using IntVec = std::int32_t __attribute__((vector_size(kWidth * 4), may_alias));
// At an address that is a multiple of an element alone.
using LooseVec = float __attribute__((vector_size(kWidth * 4), may_alias, aligned(4)));

inline Vec& vec(float* p) { return *reinterpret_cast<Vec*>(p); }
inline const Vec& vec(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline const IntVec& vec(const std::int32_t* p) { return *reinterpret_cast<const IntVec*>(p); }
inline Vec splat(float x) { return x - Vec{}; }

template <int... kIndices>
struct Indices {};
template <int kCount, int... kIndices>
struct FirstIndices : FirstIndices<kCount - 1, kCount - 1, kIndices...> {};
template <int... kIndices>
struct FirstIndices<0, kIndices...> {
  using Type = Indices<kIndices...>;
};
using Lanes = FirstIndices<kWidth>::Type;

// {0, 1, 2, ...}
template <int... kIndices>
inline IntVec lane_numbers(Indices<kIndices...>) {
  return IntVec{kIndices...};
}

// The result keeps b where a is NaN.
inline Vec max_of(Vec a, Vec b) { return a > b ? a : b; }

// The largest lane; -inf where all are NaN.
inline float largest_of(Vec v) {
  float largest = -kInfinity;
  for (int lane = 0; lane < kWidth; ++lane) largest = v[lane] > largest ? v[lane] : largest;
  return largest;
}

// Neighbouring lanes are added up first.
inline float sum_of(Vec v) {
  float sums[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) sums[lane] = v[lane];
  for (int count = kWidth / 2; count > 0; count /= 2) {
    for (int i = 0; i < count; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  }
  return sums[0];
}

// Sums of lanes that lie kStep apart: those of a in lanes whose bit kStep is 0, of b in the others.
template <int kStep, int... kIndices>
inline Vec add_halves(Vec a, Vec b, Indices<kIndices...>) {
  const Vec lower =
      __builtin_shufflevector(a, b, (kIndices & kStep ? kIndices + kWidth - kStep : kIndices)...);
  const Vec upper =
      __builtin_shufflevector(a, b, (kIndices & kStep ? kIndices + kWidth : kIndices + kStep)...);
  return lower + upper;
}

// Lane i of the result is the sum of the lanes of vectors[i] that agree with it in the bits of a
// lane's number from kStep on, for i < kCount.
template <int kStep, int kCount>
inline Vec fold(const Vec* vectors) {
  if constexpr (kCount == 1) {
    return vectors[0];
  } else {
    Vec halves[kCount / 2];
    HIP_ATTN_UNROLL
    for (int i = 0; i < kCount / 2; ++i) {
      halves[i] = add_halves<kStep>(vectors[2 * i], vectors[2 * i + 1], Lanes{});
    }
    return fold<2 * kStep, kCount / 2>(halves);
  }
}

// kWidth neighbouring elements as fp32, which is exact.
inline Vec widen(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }

// float16 is spelled out where the instruction set has no conversion: see to_float.
using Halves = std::uint16_t __attribute__((vector_size(kWidth * 2), may_alias, aligned(2)));
using UIntVec = std::uint32_t __attribute__((vector_size(kWidth * 4)));

inline Vec widen(const bfloat16* p) {
  const Halves bits = *reinterpret_cast<const Halves*>(p);
  return (Vec)(__builtin_convertvector(bits, UIntVec) << 16);
}

inline Vec widen(const float16* p) {
#if defined(__AVX512F__)
  // GCC 12 warns of its own header where the mask is left out (its bug 105593).
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  const UIntVec bits = __builtin_convertvector(*reinterpret_cast<const Halves*>(p), UIntVec);
  const UIntVec magnitude = (bits & 0x7fffu) << 13;
  const UIntVec sign = (bits & 0x8000u) << 16;
  const UIntVec finite = (UIntVec)((Vec)magnitude * 0x1p112f);
  const UIntVec special = magnitude | 0x7f800000u;
  return (Vec)((magnitude >= 0x0f800000u ? special : finite) | sign);
#endif
}

}  // namespace
}  // namespace hip_attn::cpu::HIP_ATTN_CPU_ISA
