#include "text_quality.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "error.hpp"
#include "progress.hpp"
#include "text_nll.hpp"

namespace llama {
namespace {

constexpr std::int64_t kLeastTokens = 256;

}  // namespace

std::vector<TokenId> quality_text(const Tokenizer& tokenizer, const Haystack& haystack,
                                  std::int64_t context, std::uint64_t seed) {
  const std::vector<TokenId> all = tokenizer.encode(haystack.text());
  const auto before = tokenizer.post_processor().before();
  const std::int64_t most = std::ssize(all) + std::ssize(before);
  if (context < kLeastTokens || context > most) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("context is {}; expected {} to {} tokens, what the haystack fills",
                            context, kLeastTokens, most));
  }
  std::vector<TokenId> tokens(before.begin(), before.end());
  const std::int64_t count = context - std::ssize(before);
  const std::int64_t first = SeededDraw(seed).below(std::ssize(all) - count + 1);
  tokens.insert(tokens.end(), all.begin() + first, all.begin() + first + count);
  return tokens;
}

std::vector<std::int64_t> sampled_positions(std::int64_t tokens, const SampleOptions& options) {
  SeededDraw draw(options.seed);
  const std::int64_t begin = tokens / 4;
  const std::int64_t parts = std::min(options.rows, tokens - begin);
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < parts; ++i) {
    const std::int64_t first = begin + (tokens - begin) * i / parts;
    const std::int64_t end = begin + (tokens - begin) * (i + 1) / parts;
    positions.push_back(first + draw.below(end - first));
  }
  return positions;
}

TextQuality run_text_quality(const Model& model, std::span<const TokenId> tokens,
                             const AttentionOptions& attention, EngineOptions options,
                             const SampleOptions& sample, const std::string& label) {
  const std::int64_t length = std::ssize(tokens);
  options.max_seq_len = length;
  options.cache_tokens = length;
  Engine engine(model, attention, options);
  Progress progress(label, length, "tokens");
  std::vector<AttentionSample> samples;
  engine.attention().sample_rows(sampled_positions(length, sample),
                                 [&](AttentionSample row) { samples.push_back(std::move(row)); });
  Sequence sequence = engine.new_sequence();
  const std::vector<double> nll =
      text_nll(engine, sequence, tokens, [&](std::int64_t count) { progress.advance(count); });
  TextQuality result;
  result.label = label;
  result.nll = mean(std::span(nll).subspan(nll.size() / 4));
  result.stats = engine.attention().stats();
  result.attention =
      rate_attention(samples, model.config(), engine.attention(), sequence, sample.top_keys);
  return result;
}

}  // namespace llama
