/// Figures of another implementation for the bundled model: data/reference.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "llama_config.hpp"

namespace llama {

struct Reference {
  std::int64_t haystack_tokens = 0;   ///< of the whole haystack, bos included
  std::vector<TokenId> haystack_ids;  ///< the first of them
  /// Dense float32 attention over the first 4096 tokens:
  std::vector<double> nll_per_512;
  std::map<std::int64_t, std::vector<std::pair<TokenId, double>>> top_logits;  ///< by position
  std::vector<std::string> passkey_words;
  std::vector<std::string> passkey_codes;
  std::int64_t recall_context = 0;  ///< where dense attention finds `recall_codes`
  std::int64_t recall_codes = 0;
};

/// Errors: kCannotReadFile, kMalformedReference.
Reference load_reference(const std::filesystem::path& path);

}  // namespace llama
