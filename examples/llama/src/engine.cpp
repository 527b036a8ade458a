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

std::vector<float> Engine::run(Phase phase, std::span<const BatchEntry> entries) {
  const Batch batch = make_batch(phase, entries);
  const std::vector<float> hidden = model_.forward(batch, *attention_);
  const std::int64_t hidden_size = model_.config().hidden_size;
  std::vector<float> last_rows;
  for (std::int64_t b = 0; b < batch.size(); ++b) {
    const auto end = hidden.begin() + batch.cu_seqlens_q[b + 1] * hidden_size;
    last_rows.insert(last_rows.end(), end - hidden_size, end);
  }
  return model_.logits(last_rows);
}

void Engine::prefill(Sequence& sequence, std::span<const TokenId> tokens, const OnPiece& on_piece) {
  for (std::size_t first = 0; first < tokens.size();) {
    // Cut at positions, not lengths: a sequence that already holds tokens catches up first.
    const std::int64_t room = piece_ - sequence.size() % piece_;
    const auto piece = tokens.subspan(first, std::min<std::size_t>(room, tokens.size() - first));
    const BatchEntry entry{&sequence, piece};
    on_piece(static_cast<std::int64_t>(first),
             model_.forward(make_batch(Phase::kPrefill, {&entry, 1}), *attention_));
    first += piece.size();
  }
}

}  // namespace llama
