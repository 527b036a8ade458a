/// Matrices of small integers, whose products are exact in any order, for tests of tiles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "catch.hpp"
#include "hip_attn/types.hpp"
#include "support/device_buffer.hpp"
#include "support/values.hpp"

namespace hip_attn::test {

/// A matrix on the host as doubles and on the device as bfloat16, its rows `stride` apart.
class Matrix {
 public:
  Matrix(int rows, int columns, int stride, std::uint64_t seed)
      : columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {
    std::vector<bfloat16> host(static_cast<std::size_t>(rows * stride), from_float<bfloat16>(kNaN));
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) {
        const int at = row * columns + column;
        const int value = small_integer(mix(seed, static_cast<std::uint64_t>(at)));
        values_[at] = value;
        host[row * stride + column] = from_float<bfloat16>(static_cast<float>(value));
      }
    }
    device_.emplace(cuda_device(), host);
  }
  Matrix(int rows, int columns, std::uint64_t seed) : Matrix(rows, columns, columns, seed) {}

  double operator()(int row, int column) const { return values_[row * columns_ + column]; }
  [[nodiscard]] const bfloat16* data() const { return device_->data(); }

 private:
  int columns_;
  std::vector<double> values_;
  std::optional<DeviceBuffer<bfloat16>> device_;
};

/// expected(row, column) for all of `rows` rows.
template <typename Expected>
void check_matrix(const DeviceBuffer<float>& actual, int rows, int columns, Expected&& expected) {
  std::vector<float> all;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      all.push_back(static_cast<float>(expected(row, column)));
    }
  }
  CHECK(actual.read() == all);
  CHECK(actual.guards_intact());
}

inline DeviceBuffer<float> output(int rows, int columns) {
  return {cuda_device(), std::int64_t{rows} * columns, kNaN};
}

}  // namespace hip_attn::test
