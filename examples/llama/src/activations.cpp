#include "activations.hpp"

namespace llama {

Activations::Activations(const LlamaConfig& model, std::int64_t max_rows, Backend& backend)
    : tokens(backend, max_rows), positions(backend, max_rows) {
  const auto narrow = [&](std::int64_t cols) {
    return OwnedTensor(backend, backend.activation_type(), max_rows, cols);
  };
  const auto wide = [&](std::int64_t cols) {
    return OwnedTensor(backend, hip_attn::ElementType::kFloat32, max_rows, cols);
  };
  rotary = wide(model.head_dim);
  sum = wide(model.hidden_size);
  normed = narrow(model.hidden_size);
  q = narrow(model.q_size());
  k = narrow(model.kv_size());
  v = narrow(model.kv_size());
  attended = narrow(model.q_size());
  gate = narrow(model.intermediate_size);
  up = narrow(model.intermediate_size);
}

void Activations::load(const Batch& batch) {
  tokens.upload(batch.tokens);
  positions.upload(batch.positions);
}

}  // namespace llama
