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

/// For CAPTURE and INFO.
inline std::string describe(const HipConfig& config) {
  std::ostringstream text;
  text << "sink " << config.sink << ", window " << config.window << ", block_q " << config.block_q
       << ", max_first_chunks " << config.max_first_chunks << ", stages";
  for (const ScanStage& stage : config.stages) {
    text << " {" << stage.chunk_size << ", " << stage.keep << ", " << stage.query_stride << ", "
         << (stage.rule == ScanRule::kDescent ? "descent" : "centre") << "}";
  }
  return text.str();
}

/// A valid configuration with up to `max_stages` stages. Query strides are at most 4: see
/// Values::kExact.
inline HipConfig random_config(Choices& choices, std::int64_t max_stages) {
  HipConfig config;
  config.block_q = choices.of({1, 4, 8, 16, 64});
  const std::int64_t num_stages = choices.between(0, max_stages);
  std::int32_t chunk_size = 1 << choices.between(0, 3);
  std::int64_t keep = 0;
  for (std::int64_t s = 0; s < num_stages; ++s) {  // from the last stage to the first
    if (s > 0) chunk_size <<= choices.between(0, 3);
    keep = (keep + chunk_size - 1) / chunk_size * chunk_size;
    keep += chunk_size * choices.between(keep == 0 ? 1 : 0, 6);
    ScanStage stage{chunk_size, keep, 1 << choices.between(0, 2), ScanRule::kDescent};
    stage.query_stride = std::min(stage.query_stride, config.block_q);
    if (choices.one_in(3)) stage.rule = ScanRule::kCentre;
    config.stages.insert(config.stages.begin(), stage);
  }
  config.sink = config.block_k() * choices.between(0, 5);
  config.window = choices.of({1, 2, 7, 16, 40});
  if (num_stages > 0 && choices.one_in(8)) config.stages.back().keep = 0;
  if (num_stages > 0 && choices.one_in(2)) {
    config.max_first_chunks =
        std::max<std::int64_t>(1, config.stages[0].keep / config.stages[0].chunk_size);
    if (choices.one_in(2)) config.max_first_chunks += choices.between(0, 5);
  }
  return config;
}

}  // namespace hip_attn::test
