/// The weights of a model, in the memory and the activation type of a backend; gains in float32.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "buffer.hpp"
#include "llama_config.hpp"

namespace llama {

/// Matrices are [out_features, in_features], as checkpoints store them.
struct LayerWeights {
  OwnedTensor attention_norm;
  OwnedTensor q, k, v, o;
  OwnedTensor mlp_norm;
  OwnedTensor gate, up, down;
};

struct Weights {
  OwnedTensor embedding;  ///< [vocab_size, hidden_size]
  std::vector<LayerWeights> layers;
  OwnedTensor final_norm;
  std::optional<OwnedTensor> separate_output;  ///< absent: the embedding serves

  [[nodiscard]] const Tensor& output() const {
    return separate_output ? **separate_output : *embedding;
  }
};

/// Reads the checkpoint of a model folder. Errors: those of Checkpoint.
Weights load_weights(const std::filesystem::path& folder, const LlamaConfig& config,
                     Backend& backend);

}  // namespace llama
