#include "validate.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "hip_attn/build_info.hpp"

namespace hip_attn::detail {
namespace {

constexpr std::size_t kAlignment = 16;

}  // namespace

std::string Name::str() const {
  return index < 0 ? fmt::format("{}{}", prefix, field) : fmt::format("{}[{}]", prefix, index);
}

Status check_view(Name name, const void* data, std::span<const std::int64_t> sizes,
                  std::span<const std::int64_t> strides, std::size_t element_size,
                  bool aligned_rows) {
  const std::size_t last = sizes.size() - 1;
  for (std::size_t i = 0; i <= last; ++i) {
    if (sizes[i] < 0) {
      return {
          StatusCode::kInvalidShape,
          fmt::format("{}.sizes[{}] is {}; sizes must not be negative", name.str(), i, sizes[i])};
    }
  }
  if (std::ranges::find(sizes, 0) != sizes.end()) return {};
  if (data == nullptr) {
    return {StatusCode::kNullPointer, fmt::format("{}.data is null; it must point at {} elements",
                                                  name.str(), fmt::join(sizes, " x "))};
  }
  if (strides[last] != 1) {
    return {StatusCode::kInvalidStride,
            fmt::format("{}.strides[{}] is {}; the last dimension must be contiguous (stride 1)",
                        name.str(), last, strides[last])};
  }
  const std::size_t alignment = aligned_rows ? kAlignment : element_size;
  if (reinterpret_cast<std::uintptr_t>(data) % alignment != 0) {
    return {StatusCode::kMisalignedPointer,
            fmt::format("{}.data is {}; it must be a multiple of {} bytes", name.str(), data,
                        alignment)};
  }
  for (std::size_t i = 0; i < last; ++i) {
    if (strides[i] < 0) {
      return {StatusCode::kInvalidStride,
              fmt::format("{}.strides[{}] is {}; strides must not be negative", name.str(), i,
                          strides[i])};
    }
    const auto elements_per_alignment = static_cast<std::int64_t>(kAlignment / element_size);
    if (aligned_rows && sizes[i] > 1 && strides[i] % elements_per_alignment != 0) {
      return {
          StatusCode::kMisalignedPointer,
          fmt::format("{}.strides[{}] is {} elements; rows must start on multiples of {} bytes, "
                      "a multiple of {} elements",
                      name.str(), i, strides[i], kAlignment, elements_per_alignment)};
    }
  }
  return {};
}

namespace {

struct Bytes {
  std::uintptr_t begin = 0;
  std::uintptr_t size = 0;
  std::uintptr_t outer_stride = 0;  // 0: one row, or the rows' own bytes overlap those of the next
  std::uintptr_t row_size = 0;
};

Bytes bytes_of(const Extent& extent) {
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

bool overlap(const Bytes& a, const Bytes& b) {
  if (a.size == 0 || b.size == 0 || a.begin + a.size <= b.begin || b.begin + b.size <= a.begin) {
    return false;
  }
  if (a.outer_stride == 0 || a.outer_stride != b.outer_stride) return true;
  // Where b's rows begin in a period of a's.
  const std::uintptr_t period = a.outer_stride;
  const std::uintptr_t offset = (b.begin % period + period - a.begin % period) % period;
  return offset < a.row_size || offset + b.row_size > period;
}

}  // namespace

Status check_disjoint(const Extent& output, const Extent& other) {
  if (!overlap(bytes_of(output), bytes_of(other))) return {};
  return {StatusCode::kOverlap,
          fmt::format("{} ({}) shares memory with {} ({}); it must have memory of its own",
                      output.name.str(), output.data, other.name.str(), other.data)};
}

Status check_size(Name name, std::int64_t size, const char* meaning, std::int64_t expected) {
  if (size == expected) return {};
  return {StatusCode::kInvalidShape,
          fmt::format("{} is {}; it must be {} ({})", name.str(), size, expected, meaning)};
}

Status check_head_dim(std::int64_t head_dim) {
  const auto built = built_head_dims();
  if (std::ranges::find(built, head_dim) != built.end()) return {};
  return {StatusCode::kUnsupported,
          fmt::format("head_dim is {}; this build has {}", head_dim, fmt::join(built, ", "))};
}

std::string_view to_string(ElementType type) {
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

Status check_element_type(ElementType type) {
  const auto built = built_element_types();
  if (std::ranges::find(built, type) != built.end()) return {};
  std::vector<std::string_view> names;
  for (const ElementType each : built) names.push_back(to_string(each));
  return {StatusCode::kUnsupported, fmt::format("element type is {}; this build has {}",
                                                to_string(type), fmt::join(names, ", "))};
}

}  // namespace hip_attn::detail
