#include "model.hpp"

#include <algorithm>

#include "ops.hpp"

namespace llama {

Model::Model(const std::filesystem::path& folder)
    : config_(load_llama_config(folder / "config.json")),
      weights_(load_weights(folder, config_)),
      rope_frequencies_(rope_frequencies(config_)) {}

std::vector<float> Model::forward(const Batch& batch, Attention& attention) const {
  const std::int64_t rows = batch.total_q();
  const RotaryTable rotary(batch.positions, rope_frequencies_);
  std::vector<float> x(rows * config_.hidden_size);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy_n(weights_.embedding.data.begin() + batch.tokens[row] * config_.hidden_size,
                config_.hidden_size, x.begin() + row * config_.hidden_size);
  }

  std::vector<float> normed(x.size());
  std::vector<float> q(rows * config_.q_size());
  std::vector<float> k(rows * config_.kv_size());
  std::vector<float> v(k.size());
  std::vector<float> attended(q.size());
  std::vector<float> gate(rows * config_.intermediate_size);
  std::vector<float> up(gate.size());
  for (std::int64_t i = 0; i < config_.num_layers; ++i) {
    const LayerWeights& w = weights_.layers[i];
    rms_norm(x, w.attention_norm, config_.rms_norm_eps, normed);
    linear(normed, w.q, q);
    linear(normed, w.k, k);
    linear(normed, w.v, v);
    rotary.apply(q);
    rotary.apply(k);
    attention.attend(i, batch, q, k, v, attended);
    linear(attended, w.o, x, /*accumulate=*/true);

    rms_norm(x, w.mlp_norm, config_.rms_norm_eps, normed);
    linear(normed, w.gate, gate);
    linear(normed, w.up, up);
    swiglu(gate, up);
    linear(gate, w.down, x, /*accumulate=*/true);
  }
  rms_norm(x, weights_.final_norm, config_.rms_norm_eps, normed);
  return normed;
}

std::vector<float> Model::logits(std::span<const float> hidden) const {
  const std::int64_t rows = static_cast<std::int64_t>(hidden.size()) / config_.hidden_size;
  std::vector<float> logits(rows * config_.vocab_size);
  linear(hidden, weights_.output(), logits);
  return logits;
}

}  // namespace llama
