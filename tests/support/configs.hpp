/// Configurations at the scale of tests: hundreds of keys instead of hundreds of thousands.
#pragma once

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>

#include "hip_attn/config.hpp"
#include "values.hpp"

namespace hip_attn::test {

/// Three stages like presets::infinite_hip(), an eighth to a sixteenth of its sizes.
inline HipConfig small_config() {
  HipConfig config;
  config.sink = 16;
  config.window = 24;
  config.block_q = 16;
  config.stages = {{32, 128, 4, ScanRule::kDescent},
                   {8, 64, 2, ScanRule::kDescent},
                   {4, 32, 1, ScanRule::kDescent}};
  config.refresh_interval = {8, 4, 2};
  return config;
}

/// The smallest of everything: no sink, a window of the row itself, single rows and single keys.
inline HipConfig smallest_config() {
  HipConfig config;
  config.window = 1;
  config.block_q = 1;
  config.stages = {{16, 48, 1, ScanRule::kDescent}, {1, 8, 1, ScanRule::kDescent}};
  return config;
}

/// One stage whose chunk size doubles from 64 candidates on.
inline HipConfig doubling_config() {
  HipConfig config;
  config.sink = 8;
  config.window = 10;
  config.block_q = 8;
  config.stages = {{8, 32, 1, ScanRule::kDescent}};
  config.max_first_chunks = 8;
  return config;
}

/// Sink and window alone, where the window starts between blocks.
inline HipConfig window_only_config() {
  HipConfig config = small_config();
  config.window = 21;
  config.stages.back().keep = 0;
  return config;
}

/// Two levels of landmarks and every key of what is left, like presets::landmark() above 256k
/// tokens, at a sixteenth of its sizes.
inline HipConfig landmark_config() {
  HipConfig config;
  config.sink = 32;
  config.window = 40;
  config.block_q = 16;
  config.stages = {{32, 128, 4, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {8, 64, 4, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {4, 32, 2, ScanRule::kEveryKey, Reduction::kSoftmaxSum}};
  config.refresh_interval = {8, 4, 2};
  return config;
}

/// The same with blocks of 8 keys, the least that CUDA's dense search takes.
inline HipConfig dense_landmark_config() {
  HipConfig config = landmark_config();
  config.stages.back().chunk_size = 8;
  return config;
}

/// The same stages where maxima decide.
inline HipConfig with_maxima(HipConfig config) {
  for (ScanStage& stage : config.stages) stage.reduction = Reduction::kMaximum;
  return config;
}

/// Some stage's scores are sums, which rounding may order otherwise than exact arithmetic.
inline bool has_sums(const HipConfig& config) {
  return std::any_of(config.stages.begin(), config.stages.end(), [](const ScanStage& stage) {
    return stage.reduction == Reduction::kSoftmaxSum;
  });
}

inline const char* rule_name(ScanRule rule) {
  constexpr const char* kNames[] = {"descent", "centre", "landmark", "every key"};
  const int number = static_cast<int>(rule);
  return number >= 0 && number < static_cast<int>(ScanRule::kCustom) ? kNames[number] : "none";
}

/// For CAPTURE and INFO.
inline std::string describe(const HipConfig& config) {
  std::ostringstream text;
  text << "sink " << config.sink << ", window " << config.window << ", block_q " << config.block_q
       << ", max_first_chunks " << config.max_first_chunks << ", stages";
  for (const ScanStage& stage : config.stages) {
    text << " {" << stage.chunk_size << ", " << stage.keep << ", " << stage.query_stride << ", "
         << rule_name(stage.rule)
         << (stage.reduction == Reduction::kSoftmaxSum ? ", softmax sum}" : "}");
  }
  return text.str();
}

/// A valid configuration with up to `max_stages` stages of all rules and reductions. Query strides
/// are at most 4 and landmarks are made of at most 64 keys: see Values::kExact. max_first_chunks
/// leaves landmark stages and sums room for 4096 chunks: see check_selection_by_stages.
inline HipConfig random_config(Choices& choices, std::int64_t max_stages) {
  HipConfig config;
  config.block_q = choices.of({1, 4, 8, 16, 64});
  const std::int64_t num_stages = choices.between(0, max_stages);
  const std::int64_t landmark_stages =
      num_stages > 0 && choices.one_in(3)
          ? choices.between(1, std::min<std::int64_t>(2, num_stages))
          : 0;
  std::int32_t chunk_size = 1 << choices.between(0, 3);
  std::int64_t keep = 0;
  for (std::int64_t s = num_stages - 1; s >= 0; --s) {
    const bool is_landmark = s < landmark_stages;
    if (s < num_stages - 1) chunk_size <<= choices.between(0, 3);
    if (is_landmark) chunk_size = std::min(chunk_size, 64);
    if (is_landmark && !config.stages.empty()) {
      chunk_size = std::max(chunk_size, config.stages.front().chunk_size);
    }
    keep = (keep + chunk_size - 1) / chunk_size * chunk_size;
    keep += chunk_size * choices.between(keep == 0 ? 1 : 0, 6);
    ScanStage stage{chunk_size, keep, 1 << choices.between(0, 2), ScanRule::kDescent};
    stage.query_stride = std::min(stage.query_stride, config.block_q);
    if (choices.one_in(3)) stage.rule = ScanRule::kCentre;
    if (choices.one_in(4)) stage.rule = ScanRule::kEveryKey;
    if (is_landmark) stage.rule = ScanRule::kLandmark;
    if (choices.one_in(4)) stage.reduction = Reduction::kSoftmaxSum;
    config.stages.insert(config.stages.begin(), stage);
  }
  config.sink = config.block_k() * choices.between(0, 5);
  config.window = choices.of({1, 2, 7, 16, 40});
  if (landmark_stages > 0) {
    const std::int32_t chunk = config.stages.front().chunk_size;
    config.sink = chunk * choices.between(0, 2);
    config.window = std::max<std::int64_t>(config.window, chunk);
  }
  if (num_stages > 0 && choices.one_in(8)) config.stages.back().keep = 0;
  if (num_stages > 0 && landmark_stages == 0 && !has_sums(config) && choices.one_in(2)) {
    config.max_first_chunks =
        std::max<std::int64_t>(1, config.stages[0].keep / config.stages[0].chunk_size);
    if (choices.one_in(2)) config.max_first_chunks += choices.between(0, 5);
  }
  return config;
}

}  // namespace hip_attn::test
