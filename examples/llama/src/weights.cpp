#include "weights.hpp"

#include <fmt/format.h>

#include <array>

#include "safetensors.hpp"

namespace llama {

Weights load_weights(const std::filesystem::path& folder, const LlamaConfig& config,
                     Backend& backend) {
  const Checkpoint checkpoint(folder);
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    return OwnedTensor(backend, backend.activation_type(), rows, cols,
                       checkpoint.read(name + ".weight", std::array{rows, cols}));
  };
  const auto norm = [&](const std::string& name) {
    return OwnedTensor(backend, hip_attn::ElementType::kFloat32, 1, config.hidden_size,
                       checkpoint.read(name + ".weight", std::array{config.hidden_size}));
  };

  const std::int64_t hidden = config.hidden_size;
  Weights weights;
  weights.embedding = matrix("model.embed_tokens", config.vocab_size, hidden);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    LayerWeights& w = weights.layers.emplace_back();
    w.attention_norm = norm(layer + "input_layernorm");
    w.q = matrix(layer + "self_attn.q_proj", config.q_size(), hidden);
    w.k = matrix(layer + "self_attn.k_proj", config.kv_size(), hidden);
    w.v = matrix(layer + "self_attn.v_proj", config.kv_size(), hidden);
    w.o = matrix(layer + "self_attn.o_proj", hidden, config.q_size());
    w.mlp_norm = norm(layer + "post_attention_layernorm");
    w.gate = matrix(layer + "mlp.gate_proj", config.intermediate_size, hidden);
    w.up = matrix(layer + "mlp.up_proj", config.intermediate_size, hidden);
    w.down = matrix(layer + "mlp.down_proj", hidden, config.intermediate_size);
  }
  weights.final_norm = norm("model.norm");
  if (!config.tie_word_embeddings) {
    weights.separate_output = matrix("lm_head", config.vocab_size, hidden);
  }
  return weights;
}

}  // namespace llama
