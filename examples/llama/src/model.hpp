/// The Llama architecture: embedding, blocks of attention and SwiGLU, output projection.
#pragma once

#include <filesystem>

#include "activations.hpp"
#include "attention.hpp"
#include "backend.hpp"
#include "batch.hpp"
#include "llama_config.hpp"
#include "weights.hpp"

namespace llama {

class Model {
 public:
  /// Loads config.json and the checkpoint of a Hugging Face folder into the memory of `backend`.
  Model(const std::filesystem::path& folder, Backend& backend);

  [[nodiscard]] const LlamaConfig& config() const noexcept { return config_; }
  [[nodiscard]] Backend& backend() const noexcept { return backend_; }

  /// The final hidden states of a batch that `activations` and `attention` have loaded,
  /// [total_q, hidden_size]: a view into `activations`.
  Tensor forward(const Batch& batch, Activations& activations, Attention& attention) const;

  /// logits [rows, vocab_size] from hidden states [rows, hidden_size].
  void logits(const Tensor& hidden, const Tensor& logits) const;

 private:
  LlamaConfig config_;
  Backend& backend_;
  Weights weights_;
  OwnedTensor rope_frequencies_;  // [1, head_dim / 2]
};

}  // namespace llama
