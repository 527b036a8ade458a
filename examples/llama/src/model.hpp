/// The Llama architecture: embedding, blocks of attention and SwiGLU, output projection.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "attention.hpp"
#include "batch.hpp"
#include "llama_config.hpp"
#include "weights.hpp"

namespace llama {

class Model {
 public:
  /// Loads config.json and the checkpoint of a Hugging Face folder.
  explicit Model(const std::filesystem::path& folder);

  [[nodiscard]] const LlamaConfig& config() const noexcept { return config_; }

  /// The final hidden states of the batch, [total_q, hidden_size].
  [[nodiscard]] std::vector<float> forward(const Batch& batch, Attention& attention) const;

  /// [rows, vocab_size] from hidden states [rows, hidden_size].
  [[nodiscard]] std::vector<float> logits(std::span<const float> hidden) const;

 private:
  LlamaConfig config_;
  Weights weights_;
  std::vector<float> rope_frequencies_;
};

}  // namespace llama
