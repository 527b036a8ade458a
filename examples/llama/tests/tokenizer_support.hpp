/// Small changes of the bundled tokenizer.json.
#pragma once

#include <string>
#include <vector>

#include "support.hpp"

namespace llama::test {

using Ids = std::vector<TokenId>;

Json bundled_json();

/// A tokenizer of a file with this content.
Tokenizer tokenizer(const Json& json);
Ids encode(const Json& json, const std::string& text);

struct NewToken {
  std::string content;
  std::string flags = {};  ///< the keys that are true
};

/// With tokens at the end of added_tokens, with the ids that tokenizers gives them.
Json with_added(Json json, const std::vector<NewToken>& tokens);

/// Without entries of the vocabulary and the merges that need them. Others take their ids, so that
/// the vocabulary keeps its size.
Json without_entries(Json json, const std::vector<std::string>& entries);

}  // namespace llama::test
