#include "text_nll.hpp"

#include <algorithm>
#include <numeric>

#include "buffer.hpp"

namespace llama {
namespace {

/// Logits that are in memory at once: 256 rows of a 128k vocabulary.
constexpr std::int64_t kLogits = std::int64_t{1} << 25;

}  // namespace

std::vector<double> text_nll(Engine& engine, Sequence& sequence, std::span<const TokenId> tokens,
                             const std::function<void(std::int64_t)>& on_tokens) {
  const Model& model = engine.model();
  Backend& backend = model.backend();
  const std::int64_t vocab_size = model.config().vocab_size;
  const std::int64_t rows_at_once = std::max<std::int64_t>(1, kLogits / vocab_size);
  const auto targets = static_cast<std::int64_t>(tokens.size()) - 1;
  std::vector<double> nll(std::max<std::int64_t>(0, targets));
  OwnedTensor logits;  // these grow to the largest piece
  Buffer<TokenId> next;
  Buffer<double> scores;
  engine.prefill(sequence, tokens, [&](std::int64_t first, const Tensor& hidden) {
    const std::int64_t end = std::min(first + hidden.rows, targets);
    for (std::int64_t begin = first; begin < end; begin += rows_at_once) {
      const std::int64_t count = std::min(rows_at_once, end - begin);
      if (logits->rows < count) {
        logits = OwnedTensor(backend, hip_attn::ElementType::kFloat32, count, vocab_size);
        next = Buffer<TokenId>(backend, count);
        scores = Buffer<double>(backend, count);
      }
      next.upload(tokens.subspan(begin + 1, count));
      model.logits(hidden.row_range(begin - first, count), logits.rows(count));
      backend.negative_log_likelihood(logits.rows(count), next.data(), scores.data());
      backend.begin(Part::kOther);
      const std::vector<double> piece = scores.download(0, count);
      std::copy(piece.begin(), piece.end(), nll.begin() + begin);
    }
    on_tokens(hidden.rows);
  });
  return nll;
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         std::max<double>(1.0, static_cast<double>(values.size()));
}

}  // namespace llama
