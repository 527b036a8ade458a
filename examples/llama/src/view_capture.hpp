/// What the layers of a prefill attend with, and to what, kept for the viewer.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "attention.hpp"
#include "attention_mass.hpp"
#include "backend.hpp"

namespace llama {

struct CapturedLayer {
  std::vector<std::vector<hip_attn::float16>> queries;  ///< by query head, [tokens, head_dim]
  std::vector<std::vector<hip_attn::float16>> keys;     ///< by KV head, likewise
  std::vector<HeadSelection> selections;                ///< by KV head
};

/// Keeps what one sequence's prefill does, from its first token on.
class ViewCapture {
 public:
  ViewCapture(const std::vector<std::int64_t>& layers, const LlamaConfig& model, Backend& backend);

  /// Observes inputs and selections; this object outlives the observation.
  void observe(Attention& attention);

  /// By layer. A layer of which no selection was seen attends to every key. Errors:
  /// kInvalidArgument for a query or a key that float16 does not hold.
  [[nodiscard]] const std::map<std::int64_t, CapturedLayer>& layers();

 private:
  void add_inputs(CapturedLayer& layer, const Tensor& q, const Tensor& k);
  void add_selection(CapturedLayer& layer, const Batch& batch, const hip_attn::HipConfig& config,
                     const hip_attn::ConstBlockSelection& selection);

  LlamaConfig model_;
  Backend& backend_;
  std::map<std::int64_t, CapturedLayer> layers_;
};

}  // namespace llama
