#include "byte_level.hpp"

#include <array>

#include "utf8.hpp"

namespace llama {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;

/// The character of each byte: Latin-1's where that is visible, else the next from U+0100 on.
constexpr auto kCharacterOf = [] {
  std::array<char32_t, 256> character_of{};
  char32_t next = kFirstSubstitute;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool visible =
        (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    character_of[byte] = visible ? byte : next++;
  }
  return character_of;
}();

constexpr int kNoByte = -1;

/// The byte of each character below the last that stands for one.
constexpr auto kByteOf = [] {
  std::array<int, kFirstSubstitute + 256> byte_of{};
  byte_of.fill(kNoByte);
  for (int byte = 0; byte < 256; ++byte) byte_of[kCharacterOf[byte]] = byte;
  return byte_of;
}();

}  // namespace

std::string to_printable(std::string_view bytes) {
  std::string entry;
  for (const char byte : bytes) append_utf8(kCharacterOf[static_cast<unsigned char>(byte)], entry);
  return entry;
}

std::optional<std::string> to_bytes(std::string_view entry) {
  std::string bytes;
  while (const auto character = first_character(entry)) {
    const char32_t code_point = character->code_point;
    if (code_point >= kByteOf.size() || kByteOf[code_point] == kNoByte) return std::nullopt;
    bytes.push_back(static_cast<char>(kByteOf[code_point]));
    entry.remove_prefix(character->size);
  }
  return bytes;
}

}  // namespace llama
