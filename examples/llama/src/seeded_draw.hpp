/// Random choices that are the same everywhere: the engines of <random> are specified to the bit,
/// its distributions are not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace llama {

class SeededDraw {
 public:
  explicit SeededDraw(std::uint64_t seed) : random_(seed) {}
  /// stream: which of several independent sequences of one seed.
  SeededDraw(std::uint64_t seed, std::uint32_t task, std::uint32_t stream)
      : random_([&] {
          std::seed_seq words{static_cast<std::uint32_t>(seed),
                              static_cast<std::uint32_t>(seed >> 32), task, stream};
          return std::mt19937_64(words);
        }()) {}

  std::uint64_t bits() { return random_(); }

  /// From 0 to n - 1; n >= 1.
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(n));
  }

  template <typename T>
  const T& one_of(const std::vector<T>& values) {
    return values[static_cast<std::size_t>(below(static_cast<std::int64_t>(values.size())))];
  }

  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) {
      std::swap(values[i - 1],
                values[static_cast<std::size_t>(below(static_cast<std::int64_t>(i)))]);
    }
  }

  /// `count` distinct numbers from 0 to n - 1, ascending; count <= n.
  std::vector<std::int64_t> distinct_below(std::int64_t n, std::int64_t count) {
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(n));
    std::iota(numbers.begin(), numbers.end(), 0);
    shuffle(numbers);
    numbers.resize(static_cast<std::size_t>(count));
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace llama
