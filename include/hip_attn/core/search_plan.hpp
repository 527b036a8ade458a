/// The search of a plan as plain data, made once, and the arithmetic that every backend shares: W0,
/// sizes and numbers of chunks, the sizes of arrays.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "hip_attn/config.hpp"
#include "hip_attn/core/cache_layout.hpp"
#include "hip_attn/core/host_device.hpp"

namespace hip_attn {

// ---- Arithmetic of every backend ----------------------------------------------------------------

/// log2 of the chunk size that the first stage uses on `candidates` keys (>= 0): its own, doubled
/// until at most max_first_chunks chunks remain (docs/guide/algorithm.md, "Sub-quadratic for
/// real").
HIP_ATTN_HOST_DEVICE constexpr std::int32_t first_chunk_shift(std::int32_t chunk_shift,
                                                              std::int32_t max_first_chunks,
                                                              std::int32_t candidates) noexcept {
  while (static_cast<std::uint64_t>(candidates) > static_cast<std::uint64_t>(max_first_chunks)
                                                      << chunk_shift) {
    ++chunk_shift;
  }
  return chunk_shift;
}

/// Chunks that survive a stage whose chunk size was doubled `doublings` times, when more are
/// scored: what the tokens to keep make, at least one.
HIP_ATTN_HOST_DEVICE constexpr std::int32_t kept_chunks(std::int32_t keep_chunks,
                                                        std::int32_t doublings) noexcept {
  const std::int32_t kept = keep_chunks >> doublings;
  return kept > 1 ? kept : 1;
}

// ---- The plan -----------------------------------------------------------------------------------

/// Positions and counts of keys fit 32 bits, because max_seq_len is below 2^31; chunk sizes are
/// powers of two, given by their logarithm.
struct StagePlan {
  std::int64_t cache_word;     ///< where the stage's count stands in a cache entry
  std::int32_t max_survivors;  ///< chunks that survive at most
  std::int32_t max_chunks;     ///< chunks that are scored at most
  std::int32_t keep_chunks;    ///< chunks that survive, before stage 0 doubles: keep / chunk_size
  std::int32_t chunk_shift;    ///< of stage 0: before it doubles
  std::int32_t query_stride;
  ScanRule rule;
  Reduction reduction;

  /// Scores need the logit of every row: a sum over rows, or a rule whose rows do not meet where
  /// keys are scored.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr bool needs_row_logits() const noexcept {
    return reduction == Reduction::kSoftmaxSum || rule == ScanRule::kLandmark;
  }
};

struct SearchPlan {
  static constexpr std::int32_t kUnbounded = std::numeric_limits<std::int32_t>::max();

  std::int32_t sink;
  std::int32_t window;        ///< kUnbounded for dense attention: W0 is always the sink
  std::int32_t window_shift;  ///< W0 is the sink and a multiple of 2^window_shift
  std::int32_t row_window;    ///< keys of the window that a row sees at most, or kUnbounded
  std::int32_t block_shift;   ///< log2(block_k)
  std::int32_t max_first_chunks;
  std::int32_t max_candidates;       ///< of a request of max_seq_len keys
  std::int32_t max_chunks;           ///< that any stage looks at, and blocks: >= 1
  std::int32_t max_selected_blocks;  ///< of one unit, >= 1
  std::int32_t num_stages;           ///< that run: 0 for dense attention and for a window alone
  std::int64_t cache_entry_words;    ///< of CacheLayout, padded
  StagePlan stages[kMaxStages];

  /// W0 of a query block whose first row stands at position p0.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t window_start(
      std::int32_t p0) const noexcept {
    return window_start_by_shift(sink, window, window_shift, p0);
  }

  /// log2 of the chunk size that stage s uses on `candidates` keys.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t chunk_shift(
      int s, std::int32_t candidates) const noexcept {
    return s > 0 ? stages[s].chunk_shift
                 : first_chunk_shift(stages[0].chunk_shift, max_first_chunks, candidates);
  }

  /// Chunks of 2^chunk_shift keys that stage s keeps of more.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr std::int32_t kept_chunks(
      int s, std::int32_t chunk_shift) const noexcept {
    return hip_attn::kept_chunks(stages[s].keep_chunks, chunk_shift - stages[s].chunk_shift);
  }

  /// A W0 that a cache entry holds.
  [[nodiscard]] HIP_ATTN_HOST_DEVICE constexpr bool cached_window_holds(
      std::int32_t w0) const noexcept {
    return hip_attn::cached_window_holds(cached_candidates(w0, sink), max_candidates, block_shift);
  }
};

// ---- Sizes of a configuration, for any number of candidates up to `candidates` -----------------

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

constexpr std::int32_t saturated(std::int64_t value) noexcept {
  return static_cast<std::int32_t>(
      std::min<std::int64_t>(value, std::numeric_limits<std::int32_t>::max()));
}

/// log2 of a power of two.
constexpr std::int32_t shift_of(std::int64_t size) noexcept {
  return std::countr_zero(static_cast<std::uint64_t>(size));
}

/// Chunks of chunk_size tokens that survive a stage, when more are scored.
inline std::int64_t kept_chunks(const ScanStage& stage, std::int64_t chunk_size) noexcept {
  return kept_chunks(saturated(stage.keep / stage.chunk_size),
                     shift_of(chunk_size / stage.chunk_size));
}

/// The chunk size that the first stage uses on `candidates` tokens.
inline std::int64_t first_chunk_size(const HipConfig& config, std::int64_t candidates) noexcept {
  return std::int64_t{1} << first_chunk_shift(shift_of(config.stages.front().chunk_size),
                                              saturated(config.max_first_chunks),
                                              static_cast<std::int32_t>(candidates));
}

/// The chunk size of stage s on `candidates` tokens.
inline std::int64_t stage_chunk_size(const HipConfig& config, int s,
                                     std::int64_t candidates) noexcept {
  return s == 0 ? first_chunk_size(config, candidates) : config.stage(s).chunk_size;
}

/// Most candidates that a request of max_seq_len keys can have.
inline std::int64_t max_candidates(const HipConfig& config, std::int64_t max_seq_len) noexcept {
  if (config.is_window_only()) return 0;
  return std::max<std::int64_t>(0, window_start(config, max_seq_len - 1) - config.sink);
}

/// Most chunks that survive stage s, for any number of candidates up to max_candidates.
inline std::int64_t max_survivors(const HipConfig& config, int s,
                                  std::int64_t candidates) noexcept {
  const std::int64_t all = ceil_div(candidates, config.stage(s).chunk_size);
  return std::min(all, kept_chunks(config.stage(s), config.stage(s).chunk_size));
}

/// Most blocks of block_k that one unit selects. One stage whose chunk doubled keeps whole chunks,
/// which can hold more tokens than `keep`.
inline std::int64_t max_selected_blocks(const HipConfig& config, std::int64_t candidates) noexcept {
  if (config.is_dense() || candidates <= 0) return 1;
  const int last = config.num_stages() - 1;
  const std::int64_t tokens =
      std::max(config.stage(last).keep, stage_chunk_size(config, last, candidates));
  return std::max<std::int64_t>(1, std::min(tokens, candidates) / config.block_k());
}

/// Most chunks that stage s looks at.
inline std::int64_t max_stage_chunks(const HipConfig& config, int s,
                                     std::int64_t candidates) noexcept {
  const std::int64_t chunks = ceil_div(candidates, config.stage(s).chunk_size);
  if (s == 0) return std::min(config.max_first_chunks, chunks);
  // The first stage keeps at least one chunk, however large.
  const std::int64_t entering =
      s == 1 ? std::max(config.stage(0).keep, first_chunk_size(config, candidates))
             : config.stage(s - 1).keep;
  return std::min(chunks, ceil_div(entering, config.stage(s).chunk_size));
}

/// Most chunks that any stage looks at; also bounds the blocks that survivors are cut into.
inline std::int64_t max_chunks(const HipConfig& config, std::int64_t candidates) noexcept {
  if (config.is_dense() || candidates <= 0) return 1;
  std::int64_t most = max_selected_blocks(config, candidates);
  for (int s = 0; s < config.num_stages(); ++s) {
    most = std::max(most, max_stage_chunks(config, s, candidates));
  }
  return most;
}

/// The search of requests of up to max_seq_len keys, below 2^31, by a valid configuration.
inline SearchPlan make_search_plan(const HipConfig& config, std::int64_t max_seq_len) noexcept {
  const std::int64_t candidates = max_candidates(config, max_seq_len);
  SearchPlan plan{};
  plan.sink = saturated(config.sink);
  plan.window = config.is_dense() ? SearchPlan::kUnbounded : saturated(config.window);
  plan.window_shift = config.is_window_only() ? 0 : shift_of(config.block_k());
  plan.row_window = config.is_window_only() ? saturated(config.window) : SearchPlan::kUnbounded;
  plan.block_shift = shift_of(config.block_k());
  plan.max_first_chunks = saturated(config.max_first_chunks);
  plan.max_candidates = saturated(candidates);
  plan.max_chunks = saturated(max_chunks(config, candidates));
  plan.max_selected_blocks = saturated(max_selected_blocks(config, candidates));
  plan.num_stages = config.is_window_only() ? 0 : config.num_stages();
  std::int64_t words = CacheLayout::kStages;
  for (int s = 0; s < plan.num_stages; ++s) {
    const ScanStage& stage = config.stage(s);
    StagePlan& of_plan = plan.stages[s];
    of_plan.cache_word = words;
    of_plan.max_survivors = saturated(max_survivors(config, s, candidates));
    of_plan.max_chunks = saturated(max_stage_chunks(config, s, candidates));
    of_plan.keep_chunks = saturated(stage.keep / stage.chunk_size);
    of_plan.chunk_shift = shift_of(stage.chunk_size);
    of_plan.query_stride = stage.query_stride;
    of_plan.rule = stage.rule;
    of_plan.reduction = stage.reduction;
    words += CacheLayout::stage_words(of_plan.max_survivors);
  }
  plan.cache_entry_words = CacheLayout::padded(words);
  return plan;
}

}  // namespace hip_attn
