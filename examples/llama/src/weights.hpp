/// The weights of a model, as float32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "llama_config.hpp"

namespace llama {

/// Row-major [out_features, in_features], as checkpoints store them.
struct Matrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> data;
};

struct LayerWeights {
  std::vector<float> attention_norm;
  Matrix q, k, v, o;
  std::vector<float> mlp_norm;
  Matrix gate, up, down;
};

struct Weights {
  Matrix embedding;  ///< [vocab_size, hidden_size]
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;
  std::optional<Matrix> separate_output;  ///< absent: the embedding serves

  [[nodiscard]] const Matrix& output() const {
    return separate_output ? *separate_output : embedding;
  }
};

/// Reads the checkpoint of a model folder. Errors: those of Checkpoint.
Weights load_weights(const std::filesystem::path& folder, const LlamaConfig& config);

}  // namespace llama
