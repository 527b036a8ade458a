/// What a search and attention read of a request, by the definition (docs/guide/algorithm.md).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "hip_attn/config.hpp"
#include "hip_attn/core/search_plan.hpp"

namespace hip_attn {

/// Of one unit (request, KV head, query block) in one stage.
struct StageReads {
  bool runs = false;  ///< false: the stage cannot drop anything and reads nothing
  ScanRule rule = ScanRule::kDescent;
  bool sums = false;             ///< Reduction::kSoftmaxSum
  std::int64_t chunks = 0;       ///< that are scored
  std::int64_t kept = 0;         ///< chunks that survive
  std::int64_t reads = 0;        ///< keys, or landmarks of two rows each
  std::int64_t pooled_rows = 0;  ///< query rows that each of them is multiplied with
  int levels = 1;                ///< reads of which each waits for the one before

  /// Rows of head_dim elements.
  [[nodiscard]] std::int64_t rows_read() const {
    return reads * (rule == ScanRule::kLandmark ? 2 : 1);
  }
};

struct UnitReads {
  int num_stages = 0;
  std::array<StageReads, kMaxStages> stages;
  std::int64_t attended = 0;  ///< keys that some row attends to

  [[nodiscard]] bool searches() const {
    return std::any_of(stages.begin(), stages.begin() + num_stages,
                       [](const StageReads& stage) { return stage.runs; });
  }
};

/// Of a query block of `positions` rows, the first at position p0, each with `group` query heads.
/// The candidates that no stage drops are attended to.
inline UnitReads unit_reads(const HipConfig& config, std::int64_t group, std::int64_t positions,
                            std::int64_t p0) {
  UnitReads unit;
  const std::int64_t last = p0 + positions;  // keys up to the last row
  const std::int64_t w0 = window_start(config, p0);
  if (config.is_dense()) {
    unit.attended = last;
    return unit;
  }
  if (config.is_window_only()) {
    const std::int64_t from = std::max(config.sink, w0);
    unit.attended = std::min(last, config.sink) + std::max<std::int64_t>(0, last - from);
    return unit;
  }
  const std::int64_t candidates = std::max<std::int64_t>(0, w0 - config.sink);
  std::int64_t tokens = candidates;
  unit.num_stages = config.num_stages();
  for (int s = 0; s < unit.num_stages; ++s) {
    const ScanStage& stage = config.stage(s);
    StageReads& of = unit.stages[static_cast<std::size_t>(s)];
    of.rule = stage.rule;
    of.sums = stage.reduction == Reduction::kSoftmaxSum;
    if (tokens <= 0) continue;
    const std::int64_t size = stage_chunk_size(config, s, candidates);
    of.chunks = ceil_div(tokens, size);
    of.kept = std::min(of.chunks, kept_chunks(stage, size));
    if (of.chunks <= of.kept) continue;
    of.runs = true;
    of.pooled_rows = ceil_div(positions, stage.query_stride) * group;
    if (stage.rule == ScanRule::kEveryKey) {
      of.reads = tokens;
    } else if ((stage.rule == ScanRule::kDescent || stage.rule >= ScanRule::kCustom) && size > 1) {
      // A rule of a program's own counts like a descent.
      of.levels = std::countr_zero(static_cast<std::uint64_t>(size));
      of.reads = of.chunks * 2 * of.levels;
    } else {
      of.reads = of.chunks;
    }
    tokens = std::min(tokens, of.kept * size);
  }
  unit.attended =
      std::min(last, std::min(config.sink, last) + tokens + std::max<std::int64_t>(0, last - w0));
  return unit;
}

}  // namespace hip_attn
