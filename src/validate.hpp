// Checks that operators share: views, sizes, element types, head dims and devices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

// Returns from the enclosing function when `expression` is not ok.
#define HIP_ATTN_RETURN_IF_ERROR(expression)                                      \
  do {                                                                            \
    if (::hip_attn::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

namespace hip_attn::detail {

// The name of an argument, put together only when a message needs it: checks that pass allocate
// nothing. Written "prefix" + "field" + "[index]".
struct Name {
  std::string_view prefix;
  std::string_view field;
  std::int64_t index = -1;  // -1: none

  // NOLINTNEXTLINE(google-explicit-constructor): a literal is a name
  constexpr Name(const char* name) : prefix(name) {}
  constexpr Name(std::string_view prefix_, std::string_view field_)
      : prefix(prefix_), field(field_) {}
  constexpr Name(std::string_view prefix_, std::int64_t index_) : prefix(prefix_), index(index_) {}

  [[nodiscard]] std::string str() const;
};

// A unit last stride, no negative stride, and with aligned_rows data and row strides on 16 bytes.
// A view without elements may have a null pointer.
Status check_view(Name name, const void* data, std::span<const std::int64_t> sizes,
                  std::span<const std::int64_t> strides, std::size_t element_size,
                  bool aligned_rows);

// Data such as q, k, v and out: pointer and row strides on 16 bytes.
template <typename T, int Rank>
Status check_tensor(Name name, const TensorView<T, Rank>& view) {
  return check_view(name, view.data, view.sizes, view.strides, sizeof(T), true);
}

// Small arrays such as lengths, tables and lse: the alignment of their elements is enough.
template <typename T, int Rank>
Status check_array(Name name, const TensorView<T, Rank>& view) {
  return check_view(name, view.data, view.sizes, view.strides, sizeof(T), false);
}

// Memory that a view reaches, and how it lies in it.
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

// kOverlap when `output` and `other` share memory. Views that interleave, like halves of every row
// of one tensor, do not; where their outer strides differ, all between first and last element
// counts.
Status check_disjoint(const Extent& output, const Extent& other);

// `meaning` says where the expected size comes from.
Status check_size(Name name, std::int64_t size, const char* meaning, std::int64_t expected);

Status check_head_dim(std::int64_t head_dim);
Status check_element_type(ElementType type);
std::string_view to_string(ElementType type);

}  // namespace hip_attn::detail
