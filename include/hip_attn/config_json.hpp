/// Reads the JSON configuration of the authors' package (hip-attention) into HipConfigs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "hip_attn/config.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn {

/// The configuration of every layer of a model. Each list holds one entry for all layers; or two,
/// [0] for the layers in dense_layers and [1] for all others; or one entry per layer. Without any,
/// as default-constructed, every layer is presets::dense().
struct ModelConfig {
  std::vector<HipConfig> decode_layers;
  std::vector<HipConfig> prefill_layers;   ///< empty: as decode_layers
  std::vector<std::int32_t> dense_layers;  ///< layer numbers; parse_model_config sorts them

  /// The configuration of layer `layer` (>= 0). Layers beyond a per-layer list use its last entry.
  /// The reference is good for as long as the lists are left alone.
  [[nodiscard]] HIP_ATTN_API const HipConfig& decode(std::int32_t layer) const;
  [[nodiscard]] HIP_ATTN_API const HipConfig& prefill(std::int32_t layer) const;
};

/// Parses `json`, an object. All its keys are optional, and what is absent is as in
/// presets::infinite_hip():
///
///     mask_refresh_interval   integer, or a list of one integer per stage
///     layers                  list of layer objects: one, two (dense, sparse) or one per layer
///     prefill_layers          the same for prefill; absent: as layers
///     dense_layers            list of layer numbers; beside a single layer object they are
///                             presets::dense()
///     using_extend            false
///
/// A layer object, whose keys may stand in the document itself instead of `layers`, for all layers:
///
///     sink_token_size         sink
///     sliding_window_size     window
///     second_stage_k          tokens that the last stage keeps
///     stages                  list of stage objects; empty: dense attention
///
/// A stage object, given whole but for stage_stride:
///
///     stage_block_size_q      block_q, the same in every stage
///     stage_block_stride_q    query_stride
///     stage_chunk_size        chunk_size
///     stage_k                 tokens that enter the stage, which the one before keeps; null or
///                             absent in the first
///     stage_stride            1
///
/// Every stage has ScanRule::kDescent. docs/json-config.md says the same at length, with examples.
///
/// Errors: kMalformedJson (not JSON, a key given twice, a value of the wrong type or out of range,
/// a missing stage key), kUnknownKey (a key, a value of a known key or two keys together that
/// cannot be honoured, by path: "layers[1].sa_extend_backend"), kInvalidConfig (the values break a
/// rule of HipConfig; validate's message after the path of the layer object). `config` is written
/// only on success.
HIP_ATTN_API Status parse_model_config(std::string_view json, ModelConfig& config);

}  // namespace hip_attn
