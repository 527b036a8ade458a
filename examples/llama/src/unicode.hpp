/// What a byte-level tokenizer needs to know of Unicode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

enum class CharClass : std::uint8_t { kLetter, kNumber, kSpace, kOther };

/// \p{L}, \p{N}, White_Space or none of them.
CharClass classify(char32_t code_point);

struct Character {
  char32_t code_point;
  CharClass char_class;
  std::uint32_t offset;  ///< of its first byte
};

/// The characters of a UTF-8 text. A byte that is not valid UTF-8 is a character of its own, of
/// class kOther: a byte-level tokenizer can encode anything.
std::vector<Character> decode_utf8(std::string_view text);

/// Appends the UTF-8 bytes of a code point.
void append_utf8(char32_t code_point, std::string& text);

}  // namespace llama
