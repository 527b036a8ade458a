/// One entry of a SelectionCache: what the search of one slot and KV head leaves behind. Its words,
/// and what a word may be: anything else is memory that was not zeroed, or that a plan of another
/// configuration or other maxima wrote.
#pragma once

#include <cstdint>

#include "hip_attn/core/host_device.hpp"

namespace hip_attn {

/// int32 words: {filled, W0}, then per stage {count, first keys of the survivors}. The sizes follow
/// from the configuration and the plan's max_seq_len alone, so plans that agree in those share a
/// cache.
struct CacheLayout {
  static constexpr int kFilled = 0;  ///< 0: the entry is empty, as zeroed memory is
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
