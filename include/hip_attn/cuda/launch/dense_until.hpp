/// Where prefill attends to every key, because that costs less than a search and attention to what
/// it finds.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "hip_attn/config.hpp"
#include "hip_attn/core/search_plan.hpp"

namespace hip_attn::cuda {

/// Picoseconds of the whole GPU for one key of one unit, D = 128: a part for the key, which is
/// gathered, and one for each query row that it is multiplied with. Fitted to the stages of prefill
/// on an H200 (docs/kernels/prefill-attend.md), of which only the ratios matter here.
inline constexpr double kAttendKey = 55.;
inline constexpr double kAttendRow = 0.92;
inline constexpr double kScanKey = 45.;
inline constexpr double kScanRow = 0.5;

/// Of the search for a whole query block whose first position is p0.
inline double search_cost(const HipConfig& config, std::int64_t group, std::int64_t p0) {
  const std::int64_t candidates = window_start(config, p0) - config.sink;
  std::int64_t tokens = candidates;
  double cost = 0.;
  for (int s = 0; s < config.num_stages() && tokens > 0; ++s) {
    const ScanStage& stage = config.stages[s];
    const std::int64_t size = stage_chunk_size(config, s, candidates);
    const std::int64_t chunks = ceil_div(tokens, size);
    const std::int64_t keep = kept_chunks(stage, size);
    if (chunks <= keep) continue;  // reads no key
    const int levels = std::countr_zero(static_cast<std::uint64_t>(size));
    const std::int64_t keys = stage.rule == ScanRule::kCentre || levels == 0 ? 1 : 2 * levels;
    const std::int64_t rows = config.block_q / stage.query_stride * group;
    cost += static_cast<double>(chunks * keys) * (kScanKey + kScanRow * static_cast<double>(rows));
    tokens = keep * size;
  }
  return cost;
}

/// The first position, a multiple of block_q up to max_seq_len, from where on a search pays. It
/// depends on the position of a query block and not on the call, so that a prompt in pieces attends
/// as the whole.
inline std::int64_t dense_until(const HipConfig& config, std::int64_t group,
                                std::int64_t max_seq_len) {
  if (config.is_dense() || config.is_window_only()) return 0;
  const double rows = static_cast<double>(config.block_q * group);
  const double attend = kAttendKey + kAttendRow * rows;
  std::int64_t step = config.block_q;
  for (std::int64_t p0 = 0; p0 < max_seq_len; p0 += step) {
    if (p0 / 64 >= 2 * step) step *= 2;  // a few hundred steps to any length
    const std::int64_t kept = std::min(config.stages.back().keep, p0);
    const std::int64_t attended = std::min(p0, config.sink + config.window) + kept;
    const auto saved = static_cast<double>(std::max<std::int64_t>(0, p0 - attended));
    if (saved * attend > search_cost(config, group, p0)) return p0;
  }
  return max_seq_len;
}

}  // namespace hip_attn::cuda
