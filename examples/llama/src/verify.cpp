#include "verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine.hpp"
#include "json_file.hpp"
#include "progress.hpp"
#include "recall.hpp"
#include "recall_task.hpp"
#include "reference.hpp"
#include "text_nll.hpp"

namespace llama {
namespace {

AttentionOptions dense_attention(std::optional<hip_attn::ElementType> kv_type) {
  AttentionOptions options;
  options.mode = AttentionMode::kDense;
  options.kv_type = kv_type;
  return options;
}

void check_tokens(const Tokenizer& tokenizer, const std::filesystem::path& data_folder,
                  const Reference& reference, std::vector<Check>& checks) {
  const std::string haystack = read_file(data_folder / "haystack.txt");
  const std::vector<TokenId> tokens = tokenizer.encode_with_special_tokens(haystack);
  const auto count = static_cast<std::int64_t>(tokens.size());
  checks.push_back({"tokens of the haystack", count == reference.haystack_tokens,
                    fmt::format("{} of {}", count, reference.haystack_tokens)});
  const auto [found, expected] = std::mismatch(
      tokens.begin(), tokens.end(), reference.haystack_ids.begin(), reference.haystack_ids.end());
  checks.push_back({"token ids", expected == reference.haystack_ids.end(),
                    fmt::format("the first {} of {} agree", found - tokens.begin(),
                                reference.haystack_ids.size())});
  const bool same_text = tokenizer.decode(tokenizer.encode(haystack)) == haystack;
  checks.push_back({"decoding", same_text,
                    same_text ? "the haystack's tokens give it back" : "another text came back"});
}

void check_nll(Engine& engine, const Reference& reference, double tolerance,
               std::vector<Check>& checks) {
  Sequence sequence = engine.new_sequence();
  Progress progress("verify", static_cast<std::int64_t>(reference.haystack_ids.size()), "tokens");
  const std::vector<double> nll = text_nll(engine, sequence, reference.haystack_ids,
                                           [&](std::int64_t tokens) { progress.advance(tokens); });
  for (std::size_t i = 0; i < reference.nll_per_512.size(); ++i) {
    const double found = mean(std::span(nll).subspan(512 * i, 512));
    const double expected = reference.nll_per_512[i];
    checks.push_back({fmt::format("nll of tokens {} to {}", 512 * i, 512 * i + 511),
                      std::abs(found - expected) <= tolerance,
                      fmt::format("{:.5f}, reference {:.5f}", found, expected)});
  }
}

void check_logits(Engine& engine, const Reference& reference, double tolerance,
                  std::vector<Check>& checks) {
  Sequence sequence = engine.new_sequence();
  const std::int64_t last = reference.top_logits.rbegin()->first;
  const auto tokens = std::span(reference.haystack_ids).first(last + 1);
  engine.prefill(sequence, tokens, [&](std::int64_t first, const Tensor& hidden) {
    for (const auto& [position, expected] : reference.top_logits) {
      const std::int64_t row = position - first;
      if (row < 0 || row >= hidden.rows) continue;
      const std::vector<float> logits = engine.logits(hidden.row_range(row, 1));
      double difference = 0;
      for (const auto& [token, logit] : expected) {
        difference = std::max(difference, std::abs(logits.at(token) - logit));
      }
      // No other token may be above the lowest of the expected ones.
      const auto above = std::count_if(logits.begin(), logits.end(), [&](float logit) {
        return logit > expected.back().second + tolerance;
      });
      checks.push_back(
          {fmt::format("top {} logits after token {}", expected.size(), position),
           difference <= tolerance && above < static_cast<std::int64_t>(expected.size()),
           fmt::format("differ by {:.1e} at most", difference)});
    }
  });
}

}  // namespace

VerifyTolerance verify_tolerance(hip_attn::ElementType type) {
  // Three times what an H200 gives with weights, activations and cache of the type: likelihoods
  // 1.4e-4 and 1.4e-3, logits (up to 18) 6e-3 and 0.07 away.
  switch (type) {
    case hip_attn::ElementType::kFloat16:
      return {5e-4, 0.02};
    case hip_attn::ElementType::kBFloat16:
      return {4e-3, 0.2};
    case hip_attn::ElementType::kFloat32:
      break;
  }
  return {1e-4, 3e-4};  // figures are rounded to 5 and 4 decimals, sums taken in another order
}

std::vector<Check> verify(const Model& model, const Tokenizer& tokenizer,
                          const std::filesystem::path& data_folder,
                          std::optional<hip_attn::ElementType> kv_type) {
  const VerifyTolerance tolerance =
      verify_tolerance(kv_type.value_or(model.backend().activation_type()));
  const Reference reference = load_reference(data_folder / "reference.json");
  std::vector<Check> checks;
  check_tokens(tokenizer, data_folder, reference, checks);

  EngineOptions options;
  options.max_seq_len = static_cast<std::int64_t>(reference.haystack_ids.size());
  options.cache_tokens = options.max_seq_len;
  Engine engine(model, dense_attention(kv_type), options);
  check_nll(engine, reference, tolerance.nll, checks);
  check_logits(engine, reference, tolerance.logit, checks);

  const RecallTask task =
      make_recall_task(tokenizer, data_folder, reference.recall_context, /*seed=*/1);
  const RecallResult result =
      run_recall(model, tokenizer, task, dense_attention(kv_type), {}, "recall", false);
  checks.push_back({fmt::format("codes found in {} tokens", reference.recall_context),
                    result.codes_right >= reference.recall_codes,
                    fmt::format("{} of {}", result.codes_right, task.facts.size())});
  return checks;
}

}  // namespace llama
