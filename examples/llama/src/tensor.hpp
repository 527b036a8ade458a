/// A matrix in the memory of a backend.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "hip_attn/types.hpp"

namespace llama {

constexpr std::size_t element_bytes(hip_attn::ElementType type) noexcept {
  return type == hip_attn::ElementType::kFloat32 ? 4 : 2;
}

constexpr const char* to_string(hip_attn::ElementType type) noexcept {
  switch (type) {
    case hip_attn::ElementType::kFloat32:
      return "float32";
    case hip_attn::ElementType::kFloat16:
      return "float16";
    case hip_attn::ElementType::kBFloat16:
      return "bfloat16";
  }
  return "unknown";
}

/// Calls visit with a value of the C++ type.
template <typename Visit>
auto with_type(hip_attn::ElementType type, Visit&& visit) {
  switch (type) {
    case hip_attn::ElementType::kFloat16:
      return visit(hip_attn::float16{});
    case hip_attn::ElementType::kBFloat16:
      return visit(hip_attn::bfloat16{});
    case hip_attn::ElementType::kFloat32:
      break;
  }
  return visit(float{});
}

/// Row-major and dense. A view: free to copy, and its owner's memory may be written through it.
struct Tensor {
  void* data = nullptr;
  hip_attn::ElementType type = hip_attn::ElementType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  [[nodiscard]] std::int64_t size() const noexcept { return rows * cols; }

  template <hip_attn::Element T>
  [[nodiscard]] T* as() const noexcept {
    assert(type == hip_attn::kElementType<T>);
    return static_cast<T*>(data);
  }

  [[nodiscard]] Tensor row_range(std::int64_t first, std::int64_t count) const noexcept {
    auto* bytes = static_cast<std::byte*>(data);
    return {bytes + first * cols * static_cast<std::int64_t>(element_bytes(type)), type, count,
            cols};
  }
};

}  // namespace llama
