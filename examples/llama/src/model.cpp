#include "model.hpp"

namespace llama {

Model::Model(const std::filesystem::path& folder, Backend& backend)
    : config_(load_llama_config(folder / "config.json")),
      backend_(backend),
      weights_(load_weights(folder, config_, backend)),
      rope_frequencies_(backend, hip_attn::ElementType::kFloat32, 1, config_.head_dim / 2,
                        rope_frequencies(config_.rope, config_.head_dim)) {}

Tensor Model::forward(const Batch& batch, Activations& activations, Attention& attention) const {
  const std::int64_t rows = batch.total_q();
  const float eps = config_.rms_norm_eps;
  const Tensor rotary = activations.rotary.rows(rows);
  const Tensor sum = activations.sum.rows(rows);
  const Tensor normed = activations.normed.rows(rows);
  const Tensor q = activations.q.rows(rows);
  const Tensor k = activations.k.rows(rows);
  const Tensor v = activations.v.rows(rows);
  const Tensor attended = activations.attended.rows(rows);
  const Tensor gate = activations.gate.rows(rows);
  const Tensor up = activations.up.rows(rows);

  backend_.embed(*weights_.embedding, activations.tokens.data(), sum);
  backend_.rotary_table(activations.positions.data(), *rope_frequencies_, rotary);
  for (std::int64_t i = 0; i < config_.num_layers; ++i) {
    const LayerWeights& w = weights_.layers[i];
    backend_.rms_norm(sum, *w.attention_norm, eps, normed);
    backend_.linear(normed, *w.q, q);
    backend_.linear(normed, *w.k, k);
    backend_.linear(normed, *w.v, v);
    backend_.rotate(rotary, q);
    backend_.rotate(rotary, k);
    attention.attend(i, batch, q, k, v, attended);
    backend_.add_linear(attended, *w.o, sum);

    backend_.rms_norm(sum, *w.mlp_norm, eps, normed);
    backend_.linear(normed, *w.gate, gate);
    backend_.linear(normed, *w.up, up);
    backend_.swiglu(gate, up);
    backend_.add_linear(gate, *w.down, sum);
  }
  backend_.rms_norm(sum, *weights_.final_norm, eps, normed);
  backend_.begin(Part::kOther);
  return normed;
}

void Model::logits(const Tensor& hidden, const Tensor& logits) const {
  backend_.logits(hidden, weights_.output(), logits);
  backend_.begin(Part::kOther);
}

}  // namespace llama
