#include "unicode.hpp"

#include <algorithm>
#include <iterator>

namespace llama {
namespace {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

#include "unicode_tables.inc"

template <std::size_t N>
bool contains(const CodePointRange (&ranges)[N], char32_t code_point) {
  const auto* after = std::upper_bound(
      std::begin(ranges), std::end(ranges), code_point,
      [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return after != std::begin(ranges) && code_point <= std::prev(after)->last;
}

/// The length of the valid UTF-8 sequence at the start of the text, which it decodes; 1 and an
/// invalid code point for anything else.
std::size_t decode_one(std::string_view text, char32_t& code_point) {
  constexpr char32_t kInvalid = 0xffffffff;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    code_point = lead;
    return 1;
  }
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  code_point = kInvalid;
  if (lead < 0xc2 || lead > 0xf4 || length > text.size()) return 1;
  char32_t value = lead & (0x7f >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 1;
    value = value << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = value < (length == 2 ? 0x80u : length == 3 ? 0x800u : 0x10000u);
  const bool surrogate = value >= 0xd800 && value < 0xe000;
  if (overlong || surrogate || value > 0x10ffff) return 1;
  code_point = value;
  return length;
}

}  // namespace

CharClass classify(char32_t code_point) {
  if (contains(kLetterRanges, code_point)) return CharClass::kLetter;
  if (contains(kNumberRanges, code_point)) return CharClass::kNumber;
  if (contains(kSpaceRanges, code_point)) return CharClass::kSpace;
  return CharClass::kOther;
}

std::vector<Character> decode_utf8(std::string_view text) {
  std::vector<Character> characters;
  characters.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    char32_t code_point = 0;
    const std::size_t length = decode_one(text.substr(offset), code_point);
    characters.push_back({code_point, classify(code_point), static_cast<std::uint32_t>(offset)});
    offset += length;
  }
  return characters;
}

void append_utf8(char32_t code_point, std::string& text) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | code_point >> 6);
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3f));
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

}  // namespace llama
