/// Messages of the checks, put together without a library for it: the checks are in headers.
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "hip_attn/language.hpp"

namespace hip_attn::detail {

inline void append_to(std::string& text, std::string_view words) { text += words; }

/// Integers in full, floats with as many digits as tell them apart.
template <typename Number>
requires(std::integral<Number> || std::floating_point<Number>) void append_to(std::string& text,
                                                                              Number number) {
  std::array<char, 64> digits;
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
  text.append(digits.data(), end);
}

inline void append_to(std::string& text, const void* pointer) {
  std::array<char, 2 * sizeof(pointer)> digits;
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(),
                                          reinterpret_cast<std::uintptr_t>(pointer), 16);
  text.append("0x").append(digits.data(), end);
}

inline void append_to(std::string& text, const char* words) {
  append_to(text, std::string_view(words));
}

/// message("head_dim is ", 5): words, numbers and pointers in a row.
template <typename... Parts>
std::string message(const Parts&... parts) {
  std::string text;
  (append_to(text, parts), ...);
  return text;
}

}  // namespace hip_attn::detail
