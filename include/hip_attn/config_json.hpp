/// Reads the JSON configuration of the authors' package (hip-attention) into HipConfigs.
#pragma once

#include <cstdint>
#include <string>
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
  /// For the caller to hand to the plans of prefill, as AttentionPlan::dense_until or a lower bound
  /// of it: query blocks that begin before this position attend to every key in layers that search.
  std::int64_t prefill_dense_until = 0;

  /// The configuration of layer `layer` (>= 0). Layers beyond a per-layer list use its last entry.
  /// The reference is good for as long as the lists are left alone.
  [[nodiscard]] HIP_ATTN_API const HipConfig& decode(std::int32_t layer) const;
  [[nodiscard]] HIP_ATTN_API const HipConfig& prefill(std::int32_t layer) const;
};

/// Parses `json`, an object with the keys of the authors' configuration class. An absent key means
/// what it means to that class; docs/guide/json-config.md has every key, and what becomes of it.
///
///     using_extend             false; required, because the class has true
///     layers                   list of layer objects: one, two (dense, sparse) or one per layer
///     prefill_layers           the same for prefill
///     dense_layers             list of layer numbers; beside a single layer object they are
///                              presets::dense()
///     mask_refresh_interval    integer, or a list of one integer per stage
///     force_dense, decode_always_dense, prefill_always_dense     true: presets::dense()
///     prefill_dense_threshold  tokens before a query block of prefill up to which nothing is
///     searched
///
/// A layer object, all of whose keys are optional:
///
///     sink_token_size          sink
///     sliding_window_size      window
///     second_stage_k           tokens that the last stage keeps; 0: presets::sliding_window()
///     stages                   list of stage objects; empty: dense attention
///
/// Its keys may stand in the document itself instead of `layers` and `prefill_layers`, for all
/// layers. Such a document is no file of the authors', and needs no using_extend.
///
/// A stage object, given whole but for stage_stride:
///
///     stage_block_size_q       block_q
///     stage_block_stride_q     query_stride
///     stage_chunk_size         chunk_size
///     stage_k                  tokens that enter the stage, which the one before keeps; null or
///                              absent in the first
///     stage_stride             1
///
/// Every stage has ScanRule::kDescent.
///
/// `notes`, unless null, becomes the list of what is worth a sentence: each key that has no effect
/// here, or none in the authors' package, and each absent key that means something.
///
/// Errors: kMalformedJson (not JSON, a zero byte, a key given twice, a value of the wrong type or
/// out of range, a missing stage key), kUnknownKey (a key, a value of a known key or two keys
/// together that cannot be honoured, by path: "layers[1].stages[0].using_landmark", and what to
/// write instead), kInvalidConfig (the values break a rule of HipConfig; validate's message after
/// the path of the layer object). `config` and `notes` are written only on success.
HIP_ATTN_API Status parse_model_config(std::string_view json, ModelConfig& config,
                                       std::vector<std::string>* notes = nullptr);

}  // namespace hip_attn
