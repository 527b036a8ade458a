/// The architecture of a model, from config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace llama {

using TokenId = std::int32_t;

/// "llama3" rope_scaling: low frequencies are divided by `factor`, high ones kept, those between
/// interpolated.
struct Llama3RopeScaling {
  double factor;
  double low_freq_factor;
  double high_freq_factor;
  double original_max_position_embeddings;
};

struct LlamaConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_q_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t intermediate_size = 0;
  double rope_theta = 0;
  std::optional<Llama3RopeScaling> rope_scaling;
  float rms_norm_eps = 0;
  bool tie_word_embeddings = false;
  std::optional<TokenId> bos_token;  ///< put before every text
  std::vector<TokenId> eos_tokens;   ///< any of them ends generation

  [[nodiscard]] std::int64_t q_size() const noexcept { return num_q_heads * head_dim; }
  [[nodiscard]] std::int64_t kv_size() const noexcept { return num_kv_heads * head_dim; }
};

/// Reads a Hugging Face config.json. Errors: kCannotReadFile, kMalformedModelConfig,
/// kUnsupportedModel, kUnsupportedRopeScaling.
LlamaConfig load_llama_config(const std::filesystem::path& path);

/// The rotation per position of each pair of dimensions, [head_dim / 2].
std::vector<float> rope_frequencies(const LlamaConfig& config);

}  // namespace llama
