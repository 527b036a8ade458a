/// What a kind of attention makes of a text: its likelihood, what was attended to, what was read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "attention.hpp"
#include "attention_quality.hpp"
#include "engine.hpp"
#include "haystack.hpp"
#include "tokenizer.hpp"

namespace llama {

struct SampleOptions {
  std::int64_t rows = 64;      ///< sampled in each layer
  std::int64_t top_keys = 64;  ///< of AttentionQuality::top
  std::uint64_t seed = 0;      ///< of the rows' places
};

struct TextQuality {
  std::string label;
  double nll = 0;  ///< mean over the later three quarters of the text
  AttentionStats stats;
  AttentionQuality attention;
};

/// `context` tokens of the haystack from a seeded place on, special tokens in front. Errors:
/// kInvalidArgument for a context below 256 or one that the haystack does not fill.
std::vector<TokenId> quality_text(const Tokenizer& tokenizer, const Haystack& haystack,
                                  std::int64_t context, std::uint64_t seed);

/// Ascending positions in the later three quarters of a text, one at a seeded place in each of so
/// many equal parts.
std::vector<std::int64_t> sampled_positions(std::int64_t tokens, const SampleOptions& options);

TextQuality run_text_quality(const Model& model, std::span<const TokenId> tokens,
                             const AttentionOptions& attention, EngineOptions options,
                             const SampleOptions& sample, const std::string& label);

}  // namespace llama
