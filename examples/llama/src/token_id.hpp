/// Token ids in the files of a tokenizer.
#pragma once

#include <string>

#include "json_file.hpp"
#include "llama_config.hpp"

namespace llama {

/// kMalformedTokenizer unless the value is an integer from 0 to 2^24 - 1; `where` names its owner.
TokenId read_token_id(const Json& value, const std::string& where);

}  // namespace llama
