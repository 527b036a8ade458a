/// Base64 (RFC 4648), with padding and without line breaks.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace llama {

std::string base64(std::span<const std::byte> bytes);

}  // namespace llama
