/// Memory of a backend with an owner.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "backend.hpp"

namespace llama {

/// `size` zeroed elements, in the memory of a backend that outlives them.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend& backend, std::int64_t size)
      : backend_(&backend),
        data_(static_cast<T*>(backend.allocate(static_cast<std::size_t>(size) * sizeof(T)))),
        size_(size) {}
  Buffer(Backend& backend, std::span<const T> values)
      : Buffer(backend, static_cast<std::int64_t>(values.size())) {
    upload(values);
  }
  Buffer(Buffer&& other) noexcept
      : backend_(other.backend_),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() {
    if (data_) backend_->release(data_);
  }

  [[nodiscard]] T* data() const noexcept { return data_; }
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }

  void upload(std::span<const T> values, std::int64_t first = 0) {
    if (!values.empty()) backend_->upload(data_ + first, values.data(), values.size_bytes());
  }
  [[nodiscard]] std::vector<T> download(std::int64_t first, std::int64_t count) const {
    std::vector<T> values(count);
    if (count > 0) backend_->download(values.data(), data_ + first, count * sizeof(T));
    return values;
  }
  [[nodiscard]] std::vector<T> download() const { return download(0, size_); }

 private:
  Backend* backend_ = nullptr;
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

/// A matrix with its memory.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  OwnedTensor(Backend& backend, hip_attn::ElementType type, std::int64_t rows, std::int64_t cols)
      : memory_(backend, rows * cols * static_cast<std::int64_t>(element_bytes(type))),
        tensor_{memory_.data(), type, rows, cols} {}
  /// The values, rounded to `type`.
  OwnedTensor(Backend& backend, hip_attn::ElementType type, std::int64_t rows, std::int64_t cols,
              std::span<const float> values);

  [[nodiscard]] const Tensor& operator*() const noexcept { return tensor_; }
  [[nodiscard]] const Tensor* operator->() const noexcept { return &tensor_; }
  /// The first rows: what a smaller batch needs.
  [[nodiscard]] Tensor rows(std::int64_t count) const { return tensor_.row_range(0, count); }

 private:
  Buffer<std::byte> memory_;
  Tensor tensor_;
};

/// A copy of a tensor's values on the host.
std::vector<float> download(Backend& backend, const Tensor& tensor);

}  // namespace llama
