/// The intermediate values of a forward pass, and the inputs of one batch.
#pragma once

#include "batch.hpp"
#include "buffer.hpp"
#include "llama_config.hpp"

namespace llama {

/// Made once for the largest batch, so that a pass allocates nothing and its addresses stay.
struct Activations {
  Activations(const LlamaConfig& model, std::int64_t max_rows, Backend& backend);

  /// Uploads the batch's tokens and positions.
  void load(const Batch& batch);

  Buffer<TokenId> tokens;
  Buffer<std::int32_t> positions;
  OwnedTensor rotary;  ///< see Backend::rotary_table
  OwnedTensor sum;     ///< what the blocks add to, float32
  OwnedTensor normed;
  OwnedTensor q, k, v, attended;
  OwnedTensor gate, up;
};

}  // namespace llama
