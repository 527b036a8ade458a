// The memory of a case of hip_attn_result_hashes on any device.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "hip_attn/hip_attn.hpp"
#include "result_cases.hpp"

#if defined(HIP_ATTN_BENCH_CUDA)
#include <cuda_runtime_api.h>
#endif

namespace hip_attn::bench {

// Elements on one device.
template <typename T>
class DeviceArray {
 public:
  // Every byte of it is `byte`.
  DeviceArray(Device device, std::int64_t size, int byte)
      : size_(static_cast<std::size_t>(size)), on_cpu_(device.type == DeviceType::kCpu) {
    allocate();
    fill(byte);
  }
  DeviceArray(Device device, const std::vector<T>& contents)
      : size_(contents.size()), on_cpu_(device.type == DeviceType::kCpu) {
    allocate();
    write(contents);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
#if defined(HIP_ATTN_BENCH_CUDA)
    if (!on_cpu_) cudaFree(data_);
#endif
  }

  [[nodiscard]] T* data() const { return data_; }

  // The first elements.
  void write(const std::vector<T>& values) {
    if (on_cpu_) std::copy(values.begin(), values.end(), data_);
#if defined(HIP_ATTN_BENCH_CUDA)
    else
      check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
#endif
  }
  void fill(int byte) {
    if (on_cpu_) std::memset(data_, byte, size_ * sizeof(T));
#if defined(HIP_ATTN_BENCH_CUDA)
    else
      check(cudaMemset(data_, byte, size_ * sizeof(T)));
#endif
  }
  // The first `count` elements, when what was launched before has run.
  [[nodiscard]] std::vector<T> read(std::int64_t count) const {
    if (on_cpu_) return {data_, data_ + count};
    std::vector<T> values(static_cast<std::size_t>(count));
#if defined(HIP_ATTN_BENCH_CUDA)
    check(cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
#endif
    return values;
  }
  [[nodiscard]] std::vector<T> read() const { return read(static_cast<std::int64_t>(size_)); }

 private:
  // One more element than there are: no array is without an address.
  void allocate() {
    if (on_cpu_) {
      host_.resize(size_ + 1);
      data_ = host_.data();
      return;
    }
#if defined(HIP_ATTN_BENCH_CUDA)
    void* memory = nullptr;
    check(cudaMalloc(&memory, (size_ + 1) * sizeof(T)));
    data_ = static_cast<T*>(memory);
#endif
  }
#if defined(HIP_ATTN_BENCH_CUDA)
  static void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
  }
#endif

  std::size_t size_;
  bool on_cpu_;
  std::vector<T> host_;
  T* data_ = nullptr;
};

// The first `count` numbers of the seed's own sequence, mean 0 and variance 1, as sums of four
// uniform ones. The same on every machine: integers, and one product.
template <Element T>
std::vector<T> random_values(std::int64_t count, std::uint64_t seed) {
  static std::array<std::vector<T>, 3> sequences;  // of seeds 0 to 2, as far as they were needed
  std::vector<T>& sequence = sequences.at(seed);
  for (auto i = static_cast<std::uint64_t>(sequence.size()); std::ssize(sequence) < count; ++i) {
    std::uint64_t x = (i << 2 | seed) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    std::int32_t sum = -2 * 0xffff;
    for (int part = 0; part < 4; ++part) sum += static_cast<std::int32_t>(x >> 16 * part & 0xffff);
    sequence.push_back(from_float<T>(static_cast<float>(sum) * (1.7320508f / 65536.f)));
  }
  return {sequence.begin(), sequence.begin() + count};
}

// 0 to n - 1 in an order that looks random and is always the same.
inline std::vector<std::int32_t> shuffled_pages(std::int64_t n) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::uint64_t state = 7;
  for (std::int64_t i = n; i > 1; --i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i - 1], order[(state >> 33) % static_cast<std::uint64_t>(i)]);
  }
  return order;
}

// The sizes that all calls of a case fit.
struct CaseSizes {
  std::int64_t q_rows = 0;             // of the case's queries
  std::int64_t total_q = 0;            // of one call
  std::vector<std::int64_t> seq_lens;  // of each request
  std::int64_t max_seq_len = 0;

  explicit CaseSizes(const Case& c) {
    for (const Call& call : c.calls) {
      std::int64_t rows = 0;
      seq_lens.resize(std::max(seq_lens.size(), call.requests.size()));
      for (std::size_t b = 0; b < call.requests.size(); ++b) {
        rows += call.requests[b].rows;
        seq_lens[b] = std::max(seq_lens[b], call.requests[b].seq_len);
        max_seq_len = std::max(max_seq_len, seq_lens[b]);
      }
      total_q = std::max(total_q, rows);
      q_rows = std::max(q_rows, call.first_row + rows);
    }
  }
  [[nodiscard]] std::int64_t batch() const { return std::ssize(seq_lens); }
};

// Keys and values of a case. All of the pages' memory holds numbers, whether requests use it or
// not.
template <Element T>
class KvCache {
 public:
  KvCache(Device device, std::int64_t head_dim, const Case& c, const CaseSizes& sizes)
      : contiguous_(c.order == PageOrder::kContiguous),
        batch_(sizes.batch()),
        page_size_(contiguous_ ? sizes.max_seq_len : c.page_size),
        columns_((sizes.max_seq_len + page_size_ - 1) / page_size_ + 1),
        num_pages_(contiguous_ ? batch_ : 3),
        table_(device, block_table(sizes)),
        keys_(device, contents(c, head_dim, 0)),
        values_(device, contents(c, head_dim, 1)) {
    pages_ = c.order == PageOrder::kHnd
                 ? kv_pages_hnd<const T>(keys_.data(), values_.data(), num_pages_, page_size_,
                                         c.num_kv_heads, head_dim)
                 : kv_pages_nhd<const T>(keys_.data(), values_.data(), num_pages_, page_size_,
                                         c.num_kv_heads, head_dim);
  }

  [[nodiscard]] PagedKv<T> view(std::int64_t batch) const {
    if (contiguous_) return {pages_, std::nullopt};
    return {pages_, TensorView<const std::int32_t, 2>(table_.data(), {batch, columns_})};
  }

 private:
  // Also counts the pages.
  std::vector<std::int32_t> block_table(const CaseSizes& sizes) {
    std::vector<std::int32_t> table(static_cast<std::size_t>(batch_ * columns_), -1);
    if (contiguous_) return table;
    const auto pages_of = [&](std::int64_t seq_len) {
      return (seq_len + page_size_ - 1) / page_size_;
    };
    for (const std::int64_t seq_len : sizes.seq_lens) num_pages_ += pages_of(seq_len);
    const std::vector<std::int32_t> order = shuffled_pages(num_pages_);
    auto next = order.begin();
    for (std::int64_t b = 0; b < batch_; ++b) {
      const std::int64_t pages = pages_of(sizes.seq_lens[b]);
      std::copy_n(next, pages, table.begin() + b * columns_);
      next += pages;
    }
    return table;
  }

  // Of the keys (seed 0) or values (seed 1).
  std::vector<T> contents(const Case& c, std::int64_t head_dim, std::uint64_t seed) const {
    const bool values = seed == 1;
    std::vector<T> elements =
        random_values<T>(num_pages_ * page_size_ * c.num_kv_heads * head_dim, seed);
    const std::int64_t size = std::ssize(elements);
    if (c.contents == Contents::kTies && !values) {
      for (std::int64_t i = head_dim; i < size; ++i) elements[i] = elements[i - head_dim];
    }
    if (c.contents == Contents::kInfinite && values) {
      constexpr float kInfinity = std::numeric_limits<float>::infinity();
      for (std::int64_t i = 0; i < size; i += 50021) {
        elements[i] = from_float<T>(i % 2 == 0 ? kInfinity : -kInfinity);
      }
      elements[size / 2] = from_float<T>(std::numeric_limits<float>::quiet_NaN());
    }
    return elements;
  }

  bool contiguous_;
  std::int64_t batch_;
  std::int64_t page_size_;
  std::int64_t columns_;
  std::int64_t num_pages_;
  DeviceArray<std::int32_t> table_;
  DeviceArray<T> keys_;
  DeviceArray<T> values_;
  KvPages<const T> pages_;
};

// The landmarks of all keys of a case, as update_landmarks makes them of its cache: in small pages
// in shuffled order, NaN where there are none.
template <Element T>
class CaseLandmarks {
 public:
  CaseLandmarks(Device device, std::int64_t head_dim, const Case& c, const CaseSizes& sizes)
      : lengths_(device, lengths(sizes)), batch_(sizes.batch()) {
    for (const std::int64_t size : landmark_chunk_sizes(c.config)) {
      const std::int64_t columns = sizes.max_seq_len / size / kPerPage + 1;
      const std::int64_t pages = batch_ * columns;
      columns_.push_back(columns);
      tables_.push_back(std::make_unique<DeviceArray<std::int32_t>>(device, shuffled_pages(pages)));
      rows_.push_back(std::make_unique<DeviceArray<T>>(
          device, pages * kPerPage * c.num_kv_heads * 2 * head_dim, 0xff));
      landmarks_.levels[static_cast<std::size_t>(landmarks_.num_levels++)] = landmark_level_by_head(
          rows_.back()->data(), size, pages, kPerPage, c.num_kv_heads, head_dim);
    }
  }

  // Also where there are none, which takes nothing.
  Status make(Device device, const PagedKv<T>& kv) {
    if (landmarks_.num_levels == 0) return {};
    UpdateLandmarksArgs<T> args;
    args.kv = kv;
    args.from = {lengths_.data(), {batch_}};
    args.to = {lengths_.data() + batch_, {batch_}};
    args.landmarks = view(batch_);
    return update_landmarks(device, args);
  }

  [[nodiscard]] Landmarks<T> view(std::int64_t batch) const {
    Landmarks<T> view = landmarks_;
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      view.levels[i].block_table =
          TensorView<const std::int32_t, 2>(tables_[i]->data(), {batch, columns_[i]});
    }
    return view;
  }
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> all;
    for (const auto& rows : rows_) {
      const std::vector<T> level = rows->read();
      all.insert(all.end(), level.begin(), level.end());
    }
    return all;
  }

 private:
  static constexpr std::int64_t kPerPage = 4;

  // From 0, then to the end, of each request.
  static std::vector<std::int32_t> lengths(const CaseSizes& sizes) {
    std::vector<std::int32_t> values(sizes.seq_lens.size(), 0);
    values.insert(values.end(), sizes.seq_lens.begin(), sizes.seq_lens.end());
    return values;
  }

  DeviceArray<std::int32_t> lengths_;
  std::int64_t batch_;
  std::vector<std::int64_t> columns_;
  std::vector<std::unique_ptr<DeviceArray<std::int32_t>>> tables_;
  std::vector<std::unique_ptr<DeviceArray<T>>> rows_;
  Landmarks<T> landmarks_;
};

}  // namespace hip_attn::bench
