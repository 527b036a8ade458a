// Structs of the C interface, which begin with their size, as this library knows them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "c_api/boundary.hpp"

namespace hip_attn::c_api {

// Where a struct is read that `known_size` bytes of are known: its own size is one that a header
// can have stated, and what lies beyond is zero.
Status check_struct_size(Name name, const void* given, std::size_t struct_size,
                         std::size_t known_size, bool must_be_zero_beyond);

inline std::size_t stated_size(const void* given) {
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof(size));
  return size;
}

// `known` becomes the caller's struct; members that it lacks are zero.
template <typename Struct>
Status read_struct(Name name, const Struct* given, Struct& known) {
  static_assert(std::is_trivially_copyable_v<Struct> && alignof(Struct) == alignof(std::size_t));
  if (given == nullptr) return null_pointer(name, "a struct");
  const std::size_t size = stated_size(given);
  if (size == sizeof(Struct)) {
    known = *given;
    return {};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_struct_size(name, given, size, sizeof(Struct), true));
  known = {};
  std::memcpy(&known, given, size < sizeof(Struct) ? size : sizeof(Struct));
  return {};
}

// Element `index` of an array of structs, all of the size that the first one states.
template <typename Struct>
Status read_element(Name name, const Struct* first, std::int64_t index, Struct& known) {
  if (first == nullptr) return null_pointer(name, "a struct");
  const std::size_t size = stated_size(first);
  HIP_ATTN_RETURN_IF_ERROR(check_struct_size(name, first, size, sizeof(Struct), false));
  const auto* bytes = reinterpret_cast<const std::byte*>(first);
  const auto* given =
      reinterpret_cast<const Struct*>(bytes + static_cast<std::size_t>(index) * size);
  if (const std::size_t own_size = stated_size(given); own_size != size) {
    return {StatusCode::kInvalidArgument,
            message(name.str(), ".struct_size is ", own_size,
                    "; it must be that of the array's first struct (", size, ")")};
  }
  return read_struct(name, given, known);
}

// Writes as much of `known` as the caller's struct has, and zero where it has more.
template <typename Struct>
Status write_struct(Name name, Struct known, Struct* given) {
  if (given == nullptr) return null_pointer(name, "a struct");
  const std::size_t size = stated_size(given);
  HIP_ATTN_RETURN_IF_ERROR(check_struct_size(name, given, size, sizeof(Struct), false));
  known.struct_size = size;
  if (size > sizeof(Struct)) {
    std::memset(reinterpret_cast<std::byte*>(given) + sizeof(Struct), 0, size - sizeof(Struct));
  }
  std::memcpy(given, &known, size < sizeof(Struct) ? size : sizeof(Struct));
  return {};
}

}  // namespace hip_attn::c_api
