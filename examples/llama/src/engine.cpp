#include "engine.hpp"

#include <algorithm>

namespace llama {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

Engine::Engine(const Model& model, const AttentionOptions& attention, const EngineOptions& options)
    : model_(model),
      // Every sequence may leave its last page partly empty.
      pool_(ceil_div(options.cache_tokens, options.page_size) + options.max_sequences,
            options.page_size),
      attention_(make_paged_attention(
          attention, model.config(), pool_,
          {options.max_sequences, options.prefill_rows, options.max_seq_len})) {
  const std::int64_t alignment = attention_->prefill_alignment();
  piece_ = std::max<std::int64_t>(1, options.prefill_rows / alignment) * alignment;
}

std::span<const float> Engine::hidden_row(std::span<const float> hidden, std::int64_t row) const {
  return hidden.subspan(row * model_.config().hidden_size, model_.config().hidden_size);
}

std::vector<float> Engine::run(Phase phase, std::span<const BatchEntry> entries) {
  const Batch batch = make_batch(phase, entries);
  const std::vector<float> hidden = model_.forward(batch, *attention_);
  std::vector<float> last_rows;
  for (std::int64_t b = 0; b < batch.size(); ++b) {
    const auto row = hidden_row(hidden, batch.cu_seqlens_q[b + 1] - 1);
    last_rows.insert(last_rows.end(), row.begin(), row.end());
  }
  return model_.logits(last_rows);
}

std::vector<float> Engine::prefill(Sequence& sequence, std::span<const TokenId> tokens,
                                   const OnPiece& on_piece) {
  std::vector<float> hidden;
  for (std::size_t first = 0; first < tokens.size();) {
    // Cut at positions, not lengths: a sequence that already holds tokens catches up first.
    const std::int64_t room = piece_ - sequence.size() % piece_;
    const auto piece = tokens.subspan(first, std::min<std::size_t>(room, tokens.size() - first));
    const BatchEntry entry{&sequence, piece};
    hidden = model_.forward(make_batch(Phase::kPrefill, {&entry, 1}), *attention_);
    on_piece(static_cast<std::int64_t>(first), hidden);
    first += piece.size();
  }
  const auto rows = static_cast<std::int64_t>(hidden.size()) / model_.config().hidden_size;
  return rows == 0 ? hidden : model_.logits(hidden_row(hidden, rows - 1));
}

}  // namespace llama
