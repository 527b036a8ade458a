/// Token ids that configuration files name, and those that end generation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "json_file.hpp"
#include "llama_config.hpp"

namespace llama {

/// A field that is a token id or a list of them; empty when missing or null. Ids outside of the
/// vocabulary, which the model never meets, are left out with a warning. Errors: that of `fields`.
std::vector<TokenId> token_ids(const Fields& fields, const char* key, std::int64_t vocab_size);

/// The tokens that end generation: eos_token_id of generation_config.json where the folder has that
/// file, even if the file has no such field, and of config.json otherwise, as in Transformers.
/// Warns of other settings of generation_config.json, which are not applied. Errors:
/// kCannotReadFile, kMalformedModelConfig.
std::vector<TokenId> stop_tokens(const std::filesystem::path& folder, const LlamaConfig& config);

}  // namespace llama
