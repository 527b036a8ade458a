/// One entry of a SelectionCache: what the search of one slot and KV head leaves behind. Its words,
/// and what a word may be: anything else is memory that was not zeroed, or that a plan of another
/// configuration or other maxima wrote.
#pragma once

#include <cstdint>

#include "hip_attn/core/host_device.hpp"

namespace hip_attn {

/// int32 words: {state, W0}, then per stage {count, first keys of the survivors}. The sizes follow
/// from the configuration and the plan's max_seq_len alone, so plans that agree in those share a
/// cache.
struct CacheLayout {
  static constexpr int kState = 0;  ///< a CacheState
  static constexpr int kWindowStart = 1;
  static constexpr int kStages = 2;
  static constexpr int kAlignment = 4;  ///< words: entries start on 16 bytes

  /// Words of a stage that at most so many chunks survive.
  static constexpr std::int64_t stage_words(std::int64_t max_survivors) noexcept {
    return 1 + max_survivors;
  }
  static constexpr std::int64_t padded(std::int64_t words) noexcept {
    return (words + kAlignment - 1) / kAlignment * kAlignment;
  }
};

/// What an entry holds, as its word kState says. Any other word is as kCacheSelection.
enum CacheState : std::int32_t {
  kCacheEmpty = 0,      ///< nothing, as zeroed memory does
  kCacheSelection = 1,  ///< survivors of every stage
  /// A search ahead: W0 and survivors of all stages but the last, which is the next to run.
  kCacheAhead = 2,
};

/// Stages [first, end) that a step runs. Where end is not their number, the search is one ahead: it
/// leaves out the last, and the step attends to what the entry held before.
struct StagesToRun {
  std::int32_t first;
  std::int32_t end;
};

/// Those of SelectionCache::refresh_from, any word, for an entry in a state that is not
/// kCacheEmpty.
HIP_ATTN_HOST_DEVICE constexpr StagesToRun stages_to_run(std::int32_t refresh_from,
                                                         std::int32_t state,
                                                         std::int32_t num_stages) noexcept {
  const std::int32_t last = num_stages > 0 ? num_stages - 1 : 0;
  if (state == kCacheAhead && (refresh_from < 0 || refresh_from > last)) return {last, num_stages};
  if (refresh_from >= 0) return {refresh_from < num_stages ? refresh_from : num_stages, num_stages};
  const std::int32_t ahead = -1 - refresh_from;  // search_ahead_from()
  return ahead < last ? StagesToRun{ahead, last} : StagesToRun{num_stages, num_stages};
}

/// How far behind the sink a cached W0 lies; any word has an answer.
HIP_ATTN_HOST_DEVICE constexpr std::int32_t cached_candidates(std::int32_t w0,
                                                              std::int32_t sink) noexcept {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(w0) -
                                   static_cast<std::uint32_t>(sink));
}

/// Whether a window of a plan can start `candidates` keys behind the sink: a whole number of blocks
/// of 2^block_shift keys, at most `most` keys.
HIP_ATTN_HOST_DEVICE constexpr bool cached_window_holds(std::int32_t candidates, std::int32_t most,
                                                        int block_shift) noexcept {
  const auto keys = static_cast<std::uint32_t>(candidates);
  return (keys <= static_cast<std::uint32_t>(most)) &
         ((keys & ((std::uint32_t{1} << block_shift) - 1)) == 0);
}

/// Survivor `number` of a stage whose chunks have 2^chunk_shift keys, and the survivor before it:
/// chunks are counted from `first_key`, lie before w0 and ascend.
HIP_ATTN_HOST_DEVICE constexpr bool cached_chunk_holds(std::int32_t start, std::int32_t before,
                                                       bool is_first, std::int32_t first_key,
                                                       std::int32_t w0, int chunk_shift) noexcept {
  const std::uint32_t offset =
      static_cast<std::uint32_t>(start) - static_cast<std::uint32_t>(first_key);
  return (start >= first_key) & (start < w0) &
         ((offset & ((std::uint32_t{1} << chunk_shift) - 1)) == 0) & (is_first | (before < start));
}

}  // namespace hip_attn
