#include "utf8.hpp"

#include <utf8proc.h>

namespace llama {

std::optional<Character> first_character(std::string_view text) {
  utf8proc_int32_t code_point = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size =
      utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  if (size <= 0) return std::nullopt;
  return Character{static_cast<char32_t>(code_point), static_cast<std::size_t>(size)};
}

std::string_view last_character(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while ((text[begin] & 0xc0) == 0x80) --begin;
  return text.substr(begin);
}

std::string_view valid_prefix(std::string_view text) {
  std::size_t end = 0;
  while (const auto character = first_character(text.substr(end))) end += character->size;
  return text.substr(0, end);
}

void append_utf8(char32_t code_point, std::string& text) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

}  // namespace llama
