/// Element types, devices, streams and non-owning tensor views.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "hip_attn/language.hpp"

// CUDA's stream type, declared rather than included: this header needs no CUDA.
struct CUstream_st;

namespace hip_attn {

/// IEEE binary16, stored as its bits; the layout of CUDA's __half.
struct float16 {
  std::uint16_t bits;
};

/// The upper half of an IEEE binary32, stored as its bits; the layout of CUDA's __nv_bfloat16.
struct bfloat16 {
  std::uint16_t bits;
};

/// The element types that operators take.
template <typename T>
concept Element = std::same_as<T, float> || std::same_as<T, float16> || std::same_as<T, bfloat16>;

/// Calls visit(T, C) for every pair of types that prefill and decode take: T of queries and
/// outputs, C of the keys and values in the cache. They are equal, or floats meet a cache of 16-bit
/// elements without a copy of either. The one list of them.
#define HIP_ATTN_FOR_EACH_TYPE_PAIR(visit)                                                    \
  visit(float, float) visit(float16, float16) visit(bfloat16, bfloat16) visit(float, float16) \
      visit(float, bfloat16)

#define HIP_ATTN_IS_PAIR_(A, B) || (std::same_as<T, A> && std::same_as<C, B>)
/// True for the pairs of the list. A program whose own kernels read a cache of some other type C
/// (docs/guide/extending.md, "Kernels of your own") specialises it.
template <typename C, typename T>
inline constexpr bool kIsStoredFor = false HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_IS_PAIR_);
/// A cache of C serves queries of T.
template <typename C, typename T>
concept StoredFor = kIsStoredFor<C, T>;
#undef HIP_ATTN_IS_PAIR_

enum class ElementType : int { kFloat32, kFloat16, kBFloat16 };

template <Element T>
inline constexpr ElementType kElementType = std::same_as<T, float>     ? ElementType::kFloat32
                                            : std::same_as<T, float16> ? ElementType::kFloat16
                                                                       : ElementType::kBFloat16;

/// Exact for every value of every element type.
constexpr float to_float(float x) noexcept { return x; }

constexpr float to_float(bfloat16 x) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

/// Branch-free, so that compilers vectorise loops over it. The product with 2^112 rescales the
/// exponent and makes half's denormals normal; infinities and NaN are rebuilt by hand.
constexpr float to_float(float16 x) noexcept {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t finite =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const std::uint32_t special = magnitude | 0x7f800000u;
  return std::bit_cast<float>((magnitude >= 0x0f800000u ? special : finite) | sign);
}

/// Rounds to nearest, ties to even; overflow gives infinity, NaN stays NaN.
template <Element T>
constexpr T from_float(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if constexpr (std::same_as<T, float>) {
    return x;
  } else if constexpr (std::same_as<T, bfloat16>) {
    if ((bits & 0x7fffffffu) > 0x7f800000u)
      return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  } else {
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    std::uint32_t half = 0;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u;  // NaN
    } else if (magnitude >= 0x477ff000u) {
      half = 0x7c00u;  // 65520 and above round to infinity
    } else if (magnitude < 0x38800000u) {
      // Below half's smallest normal: adding 0.5 lines half's denormal bits up with the end of a
      // float's mantissa, and the addition itself rounds to nearest even.
      half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    return {static_cast<std::uint16_t>(half | sign)};
  }
}

enum class DeviceType : int { kCpu, kCuda };

/// Where an operator runs and where every pointer given to it lives.
struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;  ///< the CUDA device ordinal; ignored for the CPU

  friend constexpr bool operator==(const Device&, const Device&) = default;
};

inline constexpr Device kCpu{DeviceType::kCpu, 0};
constexpr Device cuda_device(int index = 0) noexcept { return {DeviceType::kCuda, index}; }

/// A cudaStream_t (the same type). Ignored by the CPU backend, which runs before it returns.
using Stream = CUstream_st*;

/// Scratch memory of the caller, on the operator's device, 16-byte aligned. Its contents need not
/// survive between calls; two calls that may run at once need two.
using Workspace = std::span<std::byte>;

/// Non-owning view: sizes and strides count elements; strides[Rank - 1] must be 1.
template <typename T, int Rank>
struct TensorView {
  using Extents = std::array<std::int64_t, std::size_t{Rank}>;

  T* data = nullptr;
  Extents sizes{};
  Extents strides{};

  constexpr TensorView() = default;
  constexpr TensorView(T* data_, Extents sizes_, Extents strides_)
      : data(data_), sizes(sizes_), strides(strides_) {}

  /// Row-major and dense.
  constexpr TensorView(T* data_, Extents sizes_) : data(data_), sizes(sizes_) {
    std::int64_t stride = 1;
    for (std::size_t i = sizes.size(); i-- > 0;) {
      strides[i] = stride;
      stride *= sizes[i];
    }
  }

  /// A view of T is a view of const T. A template, because nvcc warns of a conversion of a class to
  /// itself, which this would be where T is const.
  template <std::same_as<const T> ConstT>
  requires(!std::is_const_v<T>) constexpr operator TensorView<ConstT, Rank>() const {
    return {data, sizes, strides};
  }

  template <std::integral... Index>
  requires(sizeof...(Index) == Rank) constexpr T& operator()(Index... index) const {
    const Extents at{static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < at.size(); ++i) offset += at[i] * strides[i];
    return data[offset];
  }
};

}  // namespace hip_attn
