#include "c_api/boundary.hpp"

#include <algorithm>
#include <cstring>

namespace hip_attn::c_api {

void copy_message(std::string_view text, MessageBuffer buffer) noexcept {
  if (buffer.text == nullptr || buffer.capacity == 0) return;
  const std::size_t size = std::min(text.size(), buffer.capacity - 1);
  if (size > 0) std::memcpy(buffer.text, text.data(), size);
  buffer.text[size] = '\0';
}

}  // namespace hip_attn::c_api
