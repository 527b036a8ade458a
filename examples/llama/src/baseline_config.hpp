/// Selectors of the field as configurations of the search, to compare a search with others of its
/// size. docs/guide/quality.md says what each stands for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hip_attn/config_json.hpp"

namespace llama {

struct BaselineConfig {
  hip_attn::ModelConfig config;
  float landmark_spread;
};

/// block_means, quest, best.
const std::vector<std::string>& baseline_configs();

/// The same sink, window, block_q and selected tokens as each layer of `like` has, rounded up to
/// what the baseline's blocks ask for. A single stage scores every block with every query row of
/// its unit and adds up the rows' softmax.
///   block_means: blocks of 64 keys by their mean.
///   quest: blocks of 16 keys by the bounds of their keys.
///   best: like's own blocks by the attention mass of all their keys, which is read for it.
/// Layers that select nothing, dense or with a window alone, stay as they are.
BaselineConfig baseline_config(std::string_view name, const hip_attn::ModelConfig& like);

}  // namespace llama
