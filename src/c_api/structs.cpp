#include "c_api/structs.hpp"

#include <algorithm>

namespace hip_attn::c_api {
namespace {

// Above every version's structs and below what memory that nobody set holds by chance.
constexpr std::size_t kMaxStructSize = 4096;

}  // namespace

Status check_struct_size(Name name, const void* given, std::size_t struct_size,
                         std::size_t known_size, bool must_be_zero_beyond) {
  if (struct_size < sizeof(std::size_t) || struct_size > kMaxStructSize ||
      struct_size % alignof(std::size_t) != 0) {
    return {StatusCode::kInvalidArgument,
            message(name.str(), ".struct_size is ", struct_size,
                    "; it must be sizeof of the struct (", known_size, ")")};
  }
  if (!must_be_zero_beyond || struct_size <= known_size) return {};
  const auto* bytes = static_cast<const unsigned char*>(given);
  if (std::all_of(bytes + known_size, bytes + struct_size, [](unsigned char b) { return b == 0; }))
    return {};
  return {StatusCode::kInvalidArgument,
          message(name.str(), ".struct_size is ", struct_size, "; this library knows ", known_size,
                  " bytes of it, and those beyond must be zero")};
}

}  // namespace hip_attn::c_api
