#include "baseline_config.hpp"

#include <algorithm>
#include <limits>
#include <map>

namespace llama {
namespace {

struct Baseline {
  hip_attn::ScanRule rule;
  std::int32_t block_k;  // 0: that of the configuration it is compared with
  float landmark_spread;
};

const std::map<std::string, Baseline, std::less<>>& baselines() {
  using hip_attn::ScanRule;
  static const std::map<std::string, Baseline, std::less<>> kBaselines = {
      {"block_means", {ScanRule::kLandmark, 64, 0.0f}},
      {"quest", {ScanRule::kLandmark, 16, 1.0f}},
      {"best", {ScanRule::kEveryKey, 0, 0.5f}},
  };
  return kBaselines;
}

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

hip_attn::HipConfig single_stage(const Baseline& baseline, const hip_attn::HipConfig& like) {
  if (like.is_dense() || like.is_window_only()) return like;
  const std::int32_t block_k = baseline.block_k > 0 ? baseline.block_k : like.block_k();
  hip_attn::HipConfig config;
  config.sink = round_up(like.sink, block_k);
  config.window = std::max<std::int64_t>(like.window, block_k);
  config.block_q = like.block_q;
  config.stages = {{block_k, round_up(like.stages.back().keep, block_k), 1, baseline.rule,
                    hip_attn::Reduction::kSoftmaxSum}};
  // Every block is scored, whatever the length: a baseline need not be fast.
  config.max_first_chunks = std::numeric_limits<std::int32_t>::max();
  return config;
}

}  // namespace

const std::vector<std::string>& baseline_configs() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const auto& [name, _] : baselines()) names.push_back(name);
    return names;
  }();
  return kNames;
}

BaselineConfig baseline_config(std::string_view name, const hip_attn::ModelConfig& like) {
  const Baseline& baseline = baselines().find(name)->second;
  BaselineConfig result{like, baseline.landmark_spread};
  for (auto* layers : {&result.config.decode_layers, &result.config.prefill_layers}) {
    for (hip_attn::HipConfig& config : *layers) config = single_stage(baseline, config);
  }
  return result;
}

}  // namespace llama
