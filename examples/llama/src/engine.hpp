/// A model, its KV cache and its attention, ready to run sequences.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "activations.hpp"
#include "attention.hpp"
#include "batch.hpp"
#include "kv_cache.hpp"
#include "model.hpp"

namespace llama {

struct EngineOptions {
  std::int64_t max_sequences = 1;
  std::int64_t max_seq_len = 0;   ///< tokens of one sequence at most
  std::int64_t cache_tokens = 0;  ///< tokens of all sequences together, pages shared or not
  std::int64_t page_size = 64;
  std::int64_t prefill_rows = 2048;  ///< tokens of one forward pass at most
};

class Engine {
 public:
  Engine(const Model& model, const AttentionOptions& attention, const EngineOptions& options);

  [[nodiscard]] const Model& model() const noexcept { return model_; }
  [[nodiscard]] Attention& attention() noexcept { return *attention_; }
  [[nodiscard]] Sequence new_sequence(std::int32_t slot = 0) { return Sequence(pool_, slot); }

  /// The next token's logits of each sequence, [B, vocab_size], after one forward pass.
  std::vector<float> run(Phase phase, std::span<const BatchEntry> entries);

  /// Called for each piece of a prefill with the final hidden states of its tokens, the first of
  /// which is tokens[first].
  using OnPiece = std::function<void(std::int64_t first, const Tensor& hidden)>;

  /// Feeds a text of any length to one sequence, in pieces. A prompt is fed but for its last token,
  /// which is the first to decode: that row alone then chooses what later steps reuse.
  void prefill(Sequence& sequence, std::span<const TokenId> tokens, const OnPiece& on_piece);

  /// [rows, vocab_size] of up to max_sequences rows of hidden states.
  std::vector<float> logits(const Tensor& hidden);

 private:
  /// Makes the batch, and everything that is uploaded for it.
  Batch load(Phase phase, std::span<const BatchEntry> entries);

  const Model& model_;
  BatchLimits limits_;
  PagePool pool_;
  std::unique_ptr<Attention> attention_;
  Activations activations_;
  Buffer<std::int32_t> last_rows_;  // of each sequence
  OwnedTensor last_hidden_;
  OwnedTensor logits_;
  std::map<std::int64_t, std::unique_ptr<Recording>> decode_steps_;  // by number of sequences
  std::int64_t piece_;  // tokens; if possible a multiple of the attention's prefill_alignment
};

/// Runs a prefill of so many rows and a decode step of so many sequences, and forgets them. On a
/// GPU a first pass loads kernels, those of cuBLAS for a tenth of a second, which is not to be
/// timed with whatever happens to run first.
void warm_up(const Model& model, std::int64_t prefill_rows, std::int64_t sequences);

}  // namespace llama
