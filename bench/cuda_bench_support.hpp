// What the benchmarks on a GPU share: errors that end them, device memory, random values, page
// orders.
#pragma once

#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

#include "cuda_bench_kernels.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn::bench {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fmt::print(stderr, "{}: {}\n", what, cudaGetErrorString(error));
  std::exit(1);
}

inline void check(const Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "{}: {}\n", to_string(status.code()), status.message());
  std::exit(1);
}

// Device memory of the benchmarks: freed with its owner.
template <typename T>
class Buffer {
 public:
  explicit Buffer(std::int64_t count) : count_(count) {
    check(cudaMalloc(&data_, std::max<std::int64_t>(1, count) * sizeof(T)), "cudaMalloc");
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(static_cast<std::int64_t>(values.size())) {
    check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
          "copy");
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(other.count_) {}
  ~Buffer() { cudaFree(data_); }
  T* get() const { return data_; }
  std::int64_t size() const { return count_; }

 private:
  T* data_ = nullptr;
  std::int64_t count_;
};

template <typename T>
void fill(T* values, std::int64_t count, std::uint32_t seed) {
  check(fill_random(values, count, seed), "fill");
}

// 0 to n - 1 in an order that looks random and is always the same.
inline std::vector<std::int32_t> shuffled(std::int64_t n) {
  std::vector<std::int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::uint64_t state = 7;
  for (std::int64_t i = n; i > 1; --i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i - 1], order[(state >> 33) % i]);
  }
  return order;
}

}  // namespace hip_attn::bench
