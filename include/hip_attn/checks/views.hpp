/// Checks of views and sizes, which all operators share.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "hip_attn/checks/message.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

// Returns from the enclosing function when `expression` is not ok.
#define HIP_ATTN_RETURN_IF_ERROR(expression)                                      \
  do {                                                                            \
    if (::hip_attn::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

namespace hip_attn::detail {

inline constexpr std::size_t kAlignment = 16;  ///< bytes, of data and rows

/// The name of an argument, put together only when a message needs it: checks that pass allocate
/// nothing. Written "prefix" + "[index]" + "field".
struct Name {
  std::string_view prefix;
  std::int64_t index = -1;  // -1: none
  std::string_view field;

  // NOLINTNEXTLINE(google-explicit-constructor): a literal is a name
  constexpr Name(const char* name) : prefix(name) {}
  constexpr Name(std::string_view prefix_, std::string_view field_)
      : prefix(prefix_), field(field_) {}
  constexpr Name(std::string_view prefix_, std::int64_t index_, std::string_view field_ = {})
      : prefix(prefix_), index(index_), field(field_) {}

  [[nodiscard]] std::string str() const {
    return index < 0 ? message(prefix, field) : message(prefix, "[", index, "]", field);
  }
};

/// "2 x 3 x 64"
inline std::string product_text(std::span<const std::int64_t> sizes) {
  std::string text;
  for (const std::int64_t size : sizes) {
    if (!text.empty()) text += " x ";
    append_to(text, size);
  }
  return text;
}

/// A unit last stride, no negative stride, and with aligned_rows data and row strides on 16 bytes.
/// A view without elements may have a null pointer.
inline Status check_view(Name name, const void* data, std::span<const std::int64_t> sizes,
                         std::span<const std::int64_t> strides, std::size_t element_size,
                         bool aligned_rows) {
  const std::size_t last = sizes.size() - 1;
  for (std::size_t i = 0; i <= last; ++i) {
    if (sizes[i] < 0) {
      return {StatusCode::kInvalidShape,
              message(name.str(), ".sizes[", i, "] is ", sizes[i], "; sizes must not be negative")};
    }
  }
  if (std::ranges::find(sizes, 0) != sizes.end()) return {};
  if (data == nullptr) {
    return {StatusCode::kNullPointer, message(name.str(), ".data is null; it must point at ",
                                              product_text(sizes), " elements")};
  }
  if (strides[last] != 1) {
    return {StatusCode::kInvalidStride,
            message(name.str(), ".strides[", last, "] is ", strides[last],
                    "; the last dimension must be contiguous (stride 1)")};
  }
  const std::size_t alignment = aligned_rows ? kAlignment : element_size;
  if (reinterpret_cast<std::uintptr_t>(data) % alignment != 0) {
    return {
        StatusCode::kMisalignedPointer,
        message(name.str(), ".data is ", data, "; it must be a multiple of ", alignment, " bytes")};
  }
  for (std::size_t i = 0; i < last; ++i) {
    if (strides[i] < 0) {
      return {StatusCode::kInvalidStride, message(name.str(), ".strides[", i, "] is ", strides[i],
                                                  "; strides must not be negative")};
    }
    const auto elements_per_alignment = static_cast<std::int64_t>(kAlignment / element_size);
    if (aligned_rows && sizes[i] > 1 && strides[i] % elements_per_alignment != 0) {
      return {StatusCode::kMisalignedPointer,
              message(name.str(), ".strides[", i, "] is ", strides[i],
                      " elements; rows must start on multiples of ", kAlignment,
                      " bytes, a multiple of ", elements_per_alignment, " elements")};
    }
  }
  return {};
}

/// Data such as q, k, v and out: pointer and row strides on 16 bytes.
template <typename T, int Rank>
Status check_tensor(Name name, const TensorView<T, Rank>& view) {
  return check_view(name, view.data, view.sizes, view.strides, sizeof(T), true);
}

/// Small arrays such as lengths, tables and lse: the alignment of their elements is enough.
template <typename T, int Rank>
Status check_array(Name name, const TensorView<T, Rank>& view) {
  return check_view(name, view.data, view.sizes, view.strides, sizeof(T), false);
}

/// Memory that a view reaches, and how it lies in it.
struct Extent {
  Name name;
  const void* data;
  std::span<const std::int64_t> sizes;
  std::span<const std::int64_t> strides;
  std::size_t element_size;
};

template <typename T, int Rank>
Extent extent_of(Name name, const TensorView<T, Rank>& view) {
  return {name, view.data, view.sizes, view.strides, sizeof(T)};
}

/// The same in bytes.
struct Bytes {
  std::uintptr_t begin = 0;
  std::uintptr_t size = 0;
  std::uintptr_t outer_stride = 0;  // 0: one row, or the rows' own bytes overlap those of the next
  std::uintptr_t row_size = 0;
};

inline Bytes bytes_of(const Extent& extent) {
  Bytes bytes;
  if (std::ranges::find(extent.sizes, 0) != extent.sizes.end()) return bytes;
  bytes.begin = reinterpret_cast<std::uintptr_t>(extent.data);
  std::uintptr_t row = 1;
  for (std::size_t i = 1; i < extent.sizes.size(); ++i) {
    row += static_cast<std::uintptr_t>((extent.sizes[i] - 1) * extent.strides[i]);
  }
  const auto stride = static_cast<std::uintptr_t>(extent.strides[0]);
  bytes.row_size = row * extent.element_size;
  bytes.size =
      (static_cast<std::uintptr_t>(extent.sizes[0] - 1) * stride + row) * extent.element_size;
  if (extent.sizes[0] > 1 && row <= stride) bytes.outer_stride = stride * extent.element_size;
  return bytes;
}

inline bool overlap(const Bytes& a, const Bytes& b) {
  if (a.size == 0 || b.size == 0 || a.begin + a.size <= b.begin || b.begin + b.size <= a.begin) {
    return false;
  }
  if (a.outer_stride == 0 || a.outer_stride != b.outer_stride) return true;
  // Where b's rows begin in a period of a's.
  const std::uintptr_t period = a.outer_stride;
  const std::uintptr_t offset = (b.begin % period + period - a.begin % period) % period;
  return offset < a.row_size || offset + b.row_size > period;
}

/// kOverlap when `output` and `other` share memory. Views that interleave, like halves of every row
/// of one tensor, do not; where their outer strides differ, all between first and last element
/// counts.
inline Status check_disjoint(const Extent& output, const Extent& other) {
  if (!overlap(bytes_of(output), bytes_of(other))) return {};
  return {StatusCode::kOverlap,
          message(output.name.str(), " (", output.data, ") shares memory with ", other.name.str(),
                  " (", other.data, "); it must have memory of its own")};
}

/// `meaning` says where the expected size comes from.
inline Status check_size(Name name, std::int64_t size, const char* meaning, std::int64_t expected) {
  if (size == expected) return {};
  return {StatusCode::kInvalidShape,
          message(name.str(), " is ", size, "; it must be ", expected, " (", meaning, ")")};
}

/// The same for all sizes of a view.
template <std::size_t kRank>
Status check_sizes(const char* name, const std::array<std::int64_t, kRank>& sizes,
                   const char* meaning, const std::array<std::int64_t, kRank>& expected) {
  for (std::size_t i = 0; i < kRank; ++i) {
    HIP_ATTN_RETURN_IF_ERROR(
        check_size(Name(name, static_cast<std::int64_t>(i)), sizes[i], meaning, expected[i]));
  }
  return {};
}

inline std::string_view to_string(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return "float";
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kBFloat16:
      return "bfloat16";
  }
  return "unknown";
}

}  // namespace hip_attn::detail
