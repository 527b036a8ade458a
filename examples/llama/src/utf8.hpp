/// Characters of UTF-8 texts.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace llama {

struct Character {
  char32_t code_point;
  std::size_t size;  ///< in bytes
};

/// The first character of a text; nothing when the text is empty or does not begin with valid
/// UTF-8.
std::optional<Character> first_character(std::string_view text);

/// The bytes of the last character of a valid text, which is not empty.
std::string_view last_character(std::string_view text);

/// The part of a text before its first byte that is not valid UTF-8.
std::string_view valid_prefix(std::string_view text);

/// Appends the UTF-8 bytes of a code point.
void append_utf8(char32_t code_point, std::string& text);

}  // namespace llama
