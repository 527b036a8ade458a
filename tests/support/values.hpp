/// Test values that depend on a seed and an index alone: any part of a tensor can be made without
/// the rest, and the same row is the same wherever it is stored.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "hip_attn/types.hpp"

namespace hip_attn::test {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

enum class Values {
  kGaussian,
  /// Small integers whose dot products with (pooled) queries are exact in fp32 in any order of
  /// summation, for query strides up to 4: see exact_query.
  kExact,
  /// All keys of a request equal, so that every score ties.
  kTies,
};

/// A bijection of 64-bit integers that leaves no visible pattern.
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  for (int round = 0; round < 3; ++round) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
  }
  return x ^ (x >> 32);
}

constexpr std::uint64_t mix(std::uint64_t seed, std::uint64_t index) noexcept {
  return mix(mix(seed + 1) + index);
}

/// Mean 0 and variance 1: the sum of four uniform numbers, near enough to a normal distribution.
inline float gaussian(std::uint64_t hash) noexcept {
  float sum = 0.f;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>((hash >> (16 * i)) & 0xffffu);
  return (sum / 65536.f - 2.f) * 1.7320508f;
}

/// -3 to 3: the keys and values of Values::kExact.
constexpr int small_integer(std::uint64_t hash) noexcept { return static_cast<int>(hash % 7) - 3; }

/// A pooled query is the mean of 1 to 4 rows. For float, rows are multiples of 12, so that every
/// mean is an integer. For the 16-bit types rows are -3 to 3, so means are rounded to T where 3
/// rows are pooled; they are multiples of 2^-12, sums of D <= 256 products with |k| <= 3 stay below
/// 2^12, and fp32 has the 24 bits that this takes.
template <Element T>
constexpr float exact_query(std::uint64_t hash) noexcept {
  const int integer = small_integer(hash);
  return static_cast<float>(std::same_as<T, float> ? 12 * integer : integer);
}

/// For choices of shapes and configurations: the standard fixes the engine's numbers, but not those
/// of its distributions.
class Choices {
 public:
  explicit Choices(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t bits() { return engine_(); }
  /// Uniform in [low, high].
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::int64_t n) { return between(1, n) == 1; }
  template <typename T, std::size_t N>
  T of(const T (&choices)[N]) {
    return choices[between(0, static_cast<std::int64_t>(N) - 1)];
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace hip_attn::test
