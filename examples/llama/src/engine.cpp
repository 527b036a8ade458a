#include "engine.hpp"

#include <algorithm>

namespace llama {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

Engine::Engine(const Model& model, const AttentionOptions& attention, const EngineOptions& options)
    : model_(model),
      limits_{options.max_sequences, options.prefill_rows, options.max_seq_len},
      // Every sequence may leave its last page partly empty.
      pool_(ceil_div(options.cache_tokens, options.page_size) + options.max_sequences,
            options.page_size),
      attention_(make_paged_attention(attention, model.config(), pool_, limits_, model.backend())),
      activations_(model.config(), limits_.rows(), model.backend()),
      last_rows_(model.backend(), options.max_sequences),
      last_hidden_(model.backend(), model.backend().activation_type(), options.max_sequences,
                   model.config().hidden_size),
      logits_(model.backend(), hip_attn::ElementType::kFloat32, options.max_sequences,
              model.config().vocab_size) {
  const std::int64_t alignment = attention_->prefill_alignment();
  piece_ = options.prefill_rows < alignment ? options.prefill_rows
                                            : options.prefill_rows / alignment * alignment;
}

Batch Engine::load(Phase phase, std::span<const BatchEntry> entries) {
  Batch batch = make_batch(phase, entries);
  limits_.check(batch);
  activations_.load(batch);
  attention_->prepare(batch);
  return batch;
}

std::vector<float> Engine::run(Phase phase, std::span<const BatchEntry> entries) {
  const Batch batch = load(phase, entries);
  std::vector<std::int32_t> last_rows;
  for (std::int64_t b = 0; b < batch.size(); ++b) {
    last_rows.push_back(batch.cu_seqlens_q[b + 1] - 1);
  }
  last_rows_.upload(last_rows);

  const Tensor last_hidden = last_hidden_.rows(batch.size());
  const Tensor logits = logits_.rows(batch.size());
  const auto pass = [&] {
    const Tensor hidden = model_.forward(batch, activations_, *attention_);
    model_.backend().select_rows(hidden, last_rows_.data(), last_hidden);
    model_.logits(last_hidden, logits);
  };
  if (phase == Phase::kDecode && attention_->recordable()) {
    auto& step = decode_steps_[batch.size()];
    if (!step) step = model_.backend().make_recording();
    step->run(pass);
  } else {
    pass();
  }
  attention_->finish(batch);
  return download(model_.backend(), logits);
}

void Engine::prefill(Sequence& sequence, std::span<const TokenId> tokens, const OnPiece& on_piece) {
  for (std::size_t first = 0; first < tokens.size();) {
    // Cut at positions, not lengths: a sequence that already holds tokens catches up first.
    const std::int64_t room = piece_ - sequence.size() % piece_;
    const auto piece = tokens.subspan(first, std::min<std::size_t>(room, tokens.size() - first));
    const BatchEntry entry{&sequence, piece};
    const Batch batch = load(Phase::kPrefill, {&entry, 1});
    const Tensor hidden = model_.forward(batch, activations_, *attention_);
    model_.backend().synchronize();  // so that progress is what has been done
    on_piece(static_cast<std::int64_t>(first), hidden);
    first += piece.size();
  }
}

std::vector<float> Engine::logits(const Tensor& hidden) {
  const Tensor logits = logits_.rows(hidden.rows);
  model_.logits(hidden, logits);
  return download(model_.backend(), logits);
}

void warm_up(const Model& model, std::int64_t prefill_rows, std::int64_t sequences) {
  if (model.backend().device() == hip_attn::kCpu) return;
  AttentionOptions dense;
  dense.mode = AttentionMode::kDense;
  EngineOptions options;
  options.max_sequences = sequences;
  options.max_seq_len = prefill_rows;
  options.cache_tokens = prefill_rows + sequences;
  options.prefill_rows = prefill_rows;
  Engine engine(model, dense, options);
  const std::vector<TokenId> tokens(prefill_rows);
  {
    Sequence text = engine.new_sequence();
    engine.prefill(text, tokens, [](auto, auto) {});
  }
  std::vector<Sequence> answers;
  std::vector<BatchEntry> entries;
  answers.reserve(sequences);
  for (std::int32_t slot = 0; slot < sequences; ++slot) {
    entries.push_back({&answers.emplace_back(engine.new_sequence(slot)), {tokens.data(), 1}});
  }
  (void)engine.run(Phase::kDecode, entries);
}

}  // namespace llama
