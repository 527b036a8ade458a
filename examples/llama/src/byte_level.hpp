/// How byte-level BPE writes bytes: each as one printable character.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace llama {

/// Bytes as a tokenizer.json writes them.
std::string to_printable(std::string_view bytes);

/// The bytes that an entry of a tokenizer.json stands for; nothing when it has a character that
/// stands for none.
std::optional<std::string> to_bytes(std::string_view entry);

}  // namespace llama
