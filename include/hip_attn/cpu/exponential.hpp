/// exp and tanh in fp32, of one number or of a vector of them (the vector types of GCC and Clang):
/// the same operations in the same order, so that kernels agree whatever their width.
///
/// The functions are always inlined: no weak symbol compiled for AVX-512 is left, which the linker
/// could keep for a machine without it.
#pragma once

#include <cstdint>

#include "hip_attn/language.hpp"

namespace hip_attn::cpu {

/// The integers of a vector's bits, and those of a single number's.
template <typename V>
struct BitsOf {
  using Type = decltype(V{} < V{});
};
template <>
struct BitsOf<float> {
  using Type = std::uint32_t;
};

/// exp(x) for x <= 88, within 2 ulp; 0 below -87.3 (exp's smallest normal result), NaN for NaN.
/// x = n log 2 + r with |r| <= log(2) / 2 and exp(r) by its Taylor series.
template <typename V>
[[gnu::always_inline]] inline V exp_of(V x) {
  using Bits = typename BitsOf<V>::Type;
  const V lowest = -87.3f - V{};
  const V clamped = x < lowest ? lowest : x;
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it leaves the nearest integer
  const V shifted = clamped * 1.44269504f + kRound;
  const V n = shifted - kRound;
  const V r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
  V p = 1.f / 5040 - V{};
  p = p * r + 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  // The integer sits in the low mantissa bits.
  const Bits exponent = __builtin_bit_cast(Bits, shifted) << 23;
  const V result = __builtin_bit_cast(V, __builtin_bit_cast(Bits, p) + exponent);
  const V finite = x < lowest ? V{} : result;
  return x != x ? x : finite;
}

/// tanh(y): an odd polynomial where 1 - 2 / (exp(2y) + 1) would cancel.
template <typename V>
[[gnu::always_inline]] inline V tanh_of(V y) {
  const V magnitude = y < 0.f ? -y : y;
  const V bounded = magnitude > 10.f ? 10.f - V{} : magnitude;
  const V z = bounded * bounded;
  V p = -5.70498872745e-3f - V{};
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const V small = bounded + bounded * z * p;
  const V large = 1.f - 2.f / (exp_of(bounded + bounded) + 1.f);
  const V result = bounded < 0.625f ? small : large;
  return y != y ? y : (y < 0.f ? -result : result);
}

}  // namespace hip_attn::cpu
