/// What a model's time goes to.
#pragma once

#include <array>
#include <cstddef>
#include <numeric>

namespace llama {

enum class Part {
  kEmbedding,
  kLinear,       ///< the products of the blocks
  kElementwise,  ///< norms, rotary embedding, activation
  kPrefillAttention,
  kDecodeAttention,
  kLogits,  ///< the output product and what is made of it
  kOther,   ///< all that is not the model's arithmetic: not counted
};

inline constexpr std::size_t kCountedParts = static_cast<std::size_t>(Part::kOther);

/// Seconds of each part.
struct PartTimes {
  std::array<double, kCountedParts> seconds{};

  void add(Part part, double elapsed) {
    if (part != Part::kOther) seconds[static_cast<std::size_t>(part)] += elapsed;
  }
  [[nodiscard]] double of(Part part) const { return seconds[static_cast<std::size_t>(part)]; }
  [[nodiscard]] double attention() const {
    return of(Part::kPrefillAttention) + of(Part::kDecodeAttention);
  }
  [[nodiscard]] double total() const {
    return std::accumulate(seconds.begin(), seconds.end(), 0.0);
  }

  PartTimes& operator+=(const PartTimes& other) {
    for (std::size_t i = 0; i < kCountedParts; ++i) seconds[i] += other.seconds[i];
    return *this;
  }
  friend PartTimes operator-(PartTimes a, const PartTimes& b) {
    for (std::size_t i = 0; i < kCountedParts; ++i) a.seconds[i] -= b.seconds[i];
    return a;
  }
};

}  // namespace llama
