#include "special_tokens.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "warning.hpp"

namespace llama {
namespace {

/// Fields of generation_config.json that do not change which tokens follow a prompt here.
constexpr std::array<std::string_view, 7> kWithoutEffect = {
    "_from_model_config", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id",
    "use_cache",          "cache_implementation"};

void warn_of_unused(const Fields& generation) {
  std::vector<std::string> unused;
  for (const auto& [key, value] : generation.json().items()) {
    const bool effect =
        std::find(kWithoutEffect.begin(), kWithoutEffect.end(), key) == kWithoutEffect.end();
    if (effect && !value.is_null() && value != false) {
      unused.push_back(fmt::format("{} = {}", key, short_text(value)));
    }
  }
  if (unused.empty()) return;
  warn(fmt::format(
      "{} sets {}, which is not applied: the command line decides, and is greedy by default",
      generation.where(), fmt::join(unused, ", ")));
}

}  // namespace

std::vector<TokenId> token_ids(const Fields& fields, const char* key, std::int64_t vocab_size) {
  const Json* found = fields.find(key);
  if (!found) return {};
  std::vector<TokenId> ids;
  for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
    if (!id.is_number_integer()) fields.reject(key, "a token id or a list of them");
    if (id >= 0 && id < vocab_size) {
      ids.push_back(id.get<TokenId>());
    } else {
      warn(fmt::format("{}: {} is {}, and token {} is not used: the vocabulary ends at {}",
                       fields.where(), key, short_text(*found), id.dump(), vocab_size - 1));
    }
  }
  return ids;
}

std::vector<TokenId> stop_tokens(const std::filesystem::path& folder, const LlamaConfig& config) {
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return config.eos_tokens;
  constexpr auto kMalformed = ErrorCode::kMalformedModelConfig;
  const Json json = parse_object(read_file(path), path.string(), kMalformed);
  const Fields generation(json, path.string(), kMalformed);
  warn_of_unused(generation);
  std::vector<TokenId> ids = token_ids(generation, "eos_token_id", config.vocab_size);
  if (ids.empty() && !config.eos_tokens.empty()) {
    warn(
        fmt::format("{} names no eos_token_id of the vocabulary, so no token ends generation; "
                    "that of config.json counts only without this file, as in Transformers",
                    path.string()));
  }
  return ids;
}

}  // namespace llama
