/// Lays out a caller's buffer: the same code counts its bytes and hands out its pieces.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/language.hpp"

namespace hip_attn {

/// Every piece starts on kAlignment bytes, wherever the buffer starts.
class Carver {
 public:
  static constexpr std::size_t kAlignment = 64;  // a vector register, a cache line

  /// A null buffer is only measured.
  explicit Carver(std::byte* buffer) noexcept : base_(buffer) {
    const auto address = reinterpret_cast<std::uintptr_t>(buffer);
    if (buffer) base_ += (kAlignment - address % kAlignment) % kAlignment;
  }

  template <typename T>
  T* take(std::int64_t count) noexcept {
    const std::size_t offset = used_;
    const std::size_t size = static_cast<std::size_t>(count) * sizeof(T);
    used_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    return base_ ? reinterpret_cast<T*>(base_ + offset) : nullptr;
  }

  /// What the pieces so far take in an aligned buffer.
  [[nodiscard]] std::size_t used() const noexcept { return used_; }
  /// What they take in any buffer.
  [[nodiscard]] std::size_t bytes() const noexcept { return used_ + kAlignment; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace hip_attn
