// What the benchmarks of decode and prefill on a GPU vary: lengths, budgets, blocks, groups.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "hip_attn/config.hpp"

namespace hip_attn::bench {

inline constexpr std::array<std::int64_t, 10> kLengths = {
    8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576, 2097152, 4194304};

// KV heads of 32 query heads: groups of 1 to 32 query heads share a selection.
inline constexpr std::array<std::int64_t, 6> kKvHeads = {32, 16, 8, 4, 2, 1};

using NamedConfig = std::pair<std::string, HipConfig>;

// presets::infinite_hip and presets::landmark with other numbers of tokens kept by the last stage,
// "infinite_hip_keep512", and with blocks of other sizes, "infinite_hip_block16".
inline std::vector<NamedConfig> varied_configs(std::int64_t context) {
  std::vector<NamedConfig> varied;
  for (const auto& [preset, config] : {NamedConfig{"infinite_hip", presets::infinite_hip()},
                                       NamedConfig{"landmark", presets::landmark(context)}}) {
    for (const std::int64_t keep : {512, 1024, 2048, 4096, 8192}) {
      varied.emplace_back(fmt::format("{}_keep{}", preset, keep), config);
      varied.back().second.stages.back().keep = keep;
    }
    const std::int32_t above = config.stages[config.stages.size() - 2].chunk_size;
    for (const std::int32_t block : {4, 8, 16, 32, 64}) {
      if (above % block != 0) continue;
      varied.emplace_back(fmt::format("{}_block{}", preset, block), config);
      varied.back().second.stages.back().chunk_size = block;
    }
  }
  return varied;
}

}  // namespace hip_attn::bench
