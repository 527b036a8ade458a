#include "token_id.hpp"

#include <fmt/format.h>

namespace llama {

TokenId read_token_id(const Json& value, const std::string& where) {
  constexpr std::int64_t kMaxTokens = 1 << 24;
  if (!value.is_number_integer() || value < 0 || value >= kMaxTokens) {
    throw Error(
        ErrorCode::kMalformedTokenizer,
        fmt::format("{}: id is {}; expected an integer from 0 to 2^24 - 1", where, value.dump()));
  }
  return value.get<TokenId>();
}

}  // namespace llama
