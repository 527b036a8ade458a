/// Where prefill attends to every key, because that costs less than a search and attention to what
/// it finds.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "hip_attn/config.hpp"
#include "hip_attn/core/search_plan.hpp"

namespace hip_attn::cuda {

/// Picoseconds of the whole GPU: for one row of keys or of landmarks that a unit reads, and for
/// each query row that it is multiplied with.
struct ReadCost {
  double read;
  double row;

  [[nodiscard]] constexpr double of(double query_rows) const { return read + row * query_rows; }
};

/// D = 128. What reads the keys of attention and gathers those of descents is fitted to the stages
/// of prefill on an H200 (docs/kernels/prefill-attend.md), of which only the ratios matter here.
/// Rows of a landmark stage, two to a landmark, lie together, and so do the keys of a chunk of
/// which every key is read: these have the ratios of their bytes and products, and are not fitted.
inline constexpr ReadCost kAttendCost{55., 0.92};
inline constexpr ReadCost kGatherCost{45., 0.5};
inline constexpr ReadCost kLandmarkCost{15., 0.5};
inline constexpr ReadCost kEveryKeyCost{30., 0.5};
/// For the logit of one row for one chunk, where a stage keeps them.
inline constexpr double kRowLogitCost = 0.25;

/// Of one chunk of `size` keys in a stage with so many pooled rows.
inline double chunk_cost(const ScanStage& stage, std::int64_t size, double rows) {
  const double kept = stage.reduction == Reduction::kSoftmaxSum ? kRowLogitCost * rows : 0.;
  switch (stage.rule) {
    case ScanRule::kLandmark:
      return kept + 2. * kLandmarkCost.of(rows);
    case ScanRule::kEveryKey:
      return kept + static_cast<double>(size) * kEveryKeyCost.of(rows);
    case ScanRule::kCentre:
      return kept + kGatherCost.of(rows);
    default:
      break;
  }
  const int levels = std::countr_zero(static_cast<std::uint64_t>(size));
  return kept + std::max(1., 2. * levels) * kGatherCost.of(rows);
}

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
    const std::int64_t rows = config.block_q / stage.query_stride * group;
    cost += static_cast<double>(chunks) * chunk_cost(stage, size, static_cast<double>(rows));
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
  const double attend = kAttendCost.of(rows);
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
