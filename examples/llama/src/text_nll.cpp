#include "text_nll.hpp"

#include <algorithm>
#include <numeric>

#include "ops.hpp"

namespace llama {
namespace {

/// Rows whose logits are in memory at once: 256 rows of a 128k vocabulary are 128 MB.
constexpr std::int64_t kLogitRows = 256;

}  // namespace

std::vector<double> text_nll(Engine& engine, Sequence& sequence, std::span<const TokenId> tokens,
                             const std::function<void(std::int64_t)>& on_tokens) {
  const LlamaConfig& config = engine.model().config();
  const auto targets = static_cast<std::int64_t>(tokens.size()) - 1;
  std::vector<double> nll(std::max<std::int64_t>(0, targets));
  engine.prefill(sequence, tokens, [&](std::int64_t first, std::span<const float> hidden) {
    const std::int64_t rows = static_cast<std::int64_t>(hidden.size()) / config.hidden_size;
    const std::int64_t end = std::min(first + rows, targets);
    for (std::int64_t begin = first; begin < end; begin += kLogitRows) {
      const std::int64_t count = std::min(kLogitRows, end - begin);
      const std::vector<float> logits = engine.model().logits(
          hidden.subspan((begin - first) * config.hidden_size, count * config.hidden_size));
#pragma omp parallel for
      for (std::int64_t i = 0; i < count; ++i) {
        const std::span<const float> row(logits.data() + i * config.vocab_size, config.vocab_size);
        nll[begin + i] = negative_log_likelihood(row, tokens[begin + i + 1]);
      }
    }
    on_tokens(rows);
  });
  return nll;
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         std::max<double>(1.0, static_cast<double>(values.size()));
}

}  // namespace llama
