// What the benchmarks on a GPU share: errors that end them, device memory, random values, page
// orders, landmarks, what a call reads.
#pragma once

#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

#include "cuda_bench_kernels.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/kv.hpp"
#include "hip_attn/landmarks.hpp"
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
  // Behind all work of the default stream.
  std::vector<T> read() const {
    std::vector<T> values(static_cast<std::size_t>(count_));
    check(cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost),
          "read");
    return values;
  }

 private:
  T* data_ = nullptr;
  std::int64_t count_;
};

// Of the device.
inline std::int64_t free_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(free);
}

// What a call reads: landmarks are two rows each, keys one where they are scored, and keys attended
// two with their values.
struct Reads {
  double landmarks_scored = 0;
  double keys_scored = 0;
  double keys_attended = 0;

  Reads() = default;
  // `counters`: those of a call with the config (AttentionArgs::counters).
  Reads(const HipConfig& config, const std::vector<std::int64_t>& counters) {
    const auto stages = static_cast<std::size_t>(config.num_stages());
    for (std::size_t s = 0; s < stages; ++s) {
      const bool landmarks = config.stages[s].rule == ScanRule::kLandmark;
      (landmarks ? landmarks_scored : keys_scored) += static_cast<double>(counters[s]);
    }
    keys_attended = static_cast<double>(counters[stages]);
  }
  double rows() const { return 2 * landmarks_scored + keys_scored + 2 * keys_attended; }
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

// The landmarks of one layer, by head: those of each request lie in a page of their own.
template <typename T>
class LandmarkLayer {
 public:
  LandmarkLayer(const std::vector<std::int64_t>& chunk_sizes, std::int64_t batch,
                std::int64_t context, std::int64_t kv_heads, std::int64_t head_dim)
      : batch_(batch), context_(context) {
    for (const std::int64_t size : chunk_sizes) {
      const std::int64_t count = context / size;
      rows_.emplace_back(batch * count * kv_heads * 2 * head_dim);
      view_.levels[static_cast<std::size_t>(view_.num_levels++)] =
          landmark_level_by_head(rows_.back().get(), size, batch, count, kv_heads, head_dim);
    }
  }

  const Landmarks<T>& view() const { return view_; }
  std::int64_t bytes() const {
    std::int64_t elements = 0;
    for (const Buffer<T>& rows : rows_) elements += rows.size();
    return elements * std::int64_t{sizeof(T)};
  }

  // Makes all of them, of requests of `context` keys.
  void make(const PagedKv<T>& kv) const {
    if (rows_.empty()) return;
    const Buffer<std::int32_t> from(std::vector<std::int32_t>(batch_, 0));
    const Buffer<std::int32_t> to(
        std::vector<std::int32_t>(batch_, static_cast<std::int32_t>(context_)));
    UpdateLandmarksArgs<T> args;
    args.kv = kv;
    args.from = {from.get(), {batch_}};
    args.to = {to.get(), {batch_}};
    args.landmarks = view_;
    args.max_tokens = context_;
    check(update_landmarks(cuda_device(), args));
    check(cudaDeviceSynchronize(), "update_landmarks");
  }

 private:
  std::int64_t batch_;
  std::int64_t context_;
  std::vector<Buffer<T>> rows_;
  Landmarks<T> view_;
};

}  // namespace hip_attn::bench
