/// The architecture of a model, from config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "rope.hpp"

namespace llama {

using TokenId = std::int32_t;

/// The sizes are those that an absent key stands for in Transformers.
struct LlamaConfig {
  std::int64_t vocab_size = 32000;
  std::int64_t hidden_size = 4096;
  std::int64_t num_layers = 32;
  std::int64_t num_q_heads = 32;
  std::int64_t num_kv_heads = 0;  ///< by default num_q_heads
  std::int64_t head_dim = 0;      ///< by default hidden_size / num_q_heads
  std::int64_t intermediate_size = 11008;
  std::int64_t max_position_embeddings = 2048;
  Rope rope;
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;  ///< the checkpoint has the last word: Weights
  std::vector<TokenId> eos_tokens;   ///< end generation, unless generation_config.json decides

  [[nodiscard]] std::int64_t q_size() const noexcept { return num_q_heads * head_dim; }
  [[nodiscard]] std::int64_t kv_size() const noexcept { return num_kv_heads * head_dim; }
};

/// Reads a Hugging Face config.json as Transformers does. What would change the result and is not
/// implemented is refused; what is decided between several values is warned of. Errors:
/// kCannotReadFile, kMalformedModelConfig, kUnsupportedModel, kUnsupportedRopeScaling.
LlamaConfig load_llama_config(const std::filesystem::path& path);

}  // namespace llama
