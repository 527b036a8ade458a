/// Reads the JSON configuration of the authors' package (hip-attention) into HipConfigs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "hip_attn/config.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn {

/// The configuration of every layer of a model. See decode() for layers past the end of a list.
struct ModelConfig {
  /// Per layer, or two entries: [0] for the layers in dense_layers, [1] for all others, or one
  /// entry for all layers.
  std::vector<HipConfig> decode_layers;
  std::vector<HipConfig> prefill_layers;   ///< the same for prefill; empty: as decode_layers
  std::vector<std::int32_t> dense_layers;  ///< ascending layer numbers

  /// The configuration of layer `layer` (>= 0). Layers beyond a per-layer list use its last entry.
  [[nodiscard]] HIP_ATTN_API const HipConfig& decode(std::int32_t layer) const;
  [[nodiscard]] HIP_ATTN_API const HipConfig& prefill(std::int32_t layer) const;
};

/// Parses `json`, an object with any of the keys
///   mask_refresh_interval            number, or one number per stage
///   layers, prefill_layers           lists of layer objects (one, two: dense and sparse, or one
///   per layer) dense_layers                     layer numbers second_stage_k, sliding_window_size,
///   sink_token_size, stages   a layer object's keys, for all layers
/// where a layer object has second_stage_k (tokens the last stage keeps), sliding_window_size,
/// sink_token_size and stages, a list of {stage_block_size_q, stage_block_stride_q,
/// stage_chunk_size, stage_k (tokens that enter the stage; null for the first), stage_stride (1)}.
/// What is absent is as in presets::infinite_hip(). docs/json-config.md lists the mapping key by
/// key.
///
/// Errors: kMalformedJson (not JSON, wrong type), kUnknownKey (a key, or a value of a known key,
/// that cannot be honoured, by its path: "layers[1].sa_extend_backend"), kInvalidConfig (the values
/// break a rule of HipConfig). `config` is written only on success.
HIP_ATTN_API Status parse_model_config(std::string_view json, ModelConfig& config);

}  // namespace hip_attn
