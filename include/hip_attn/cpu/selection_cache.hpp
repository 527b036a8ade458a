/// One entry of a SelectionCache: what a search of one slot and KV head left behind.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hip_attn/config.hpp"
#include "hip_attn/search_plan.hpp"

namespace hip_attn::cpu {

/// int32 words: {filled, W0}, then per stage {count, first keys of the survivors}. The sizes follow
/// from the config and the plan's max_seq_len alone, so plans that agree in those share a cache.
class CacheEntry {
 public:
  /// Where the count of stage s stands; for s = num_stages, the end of the entry.
  static std::int64_t stage_word(const HipConfig& config, int s, std::int64_t candidates) noexcept {
    std::int64_t word = 2;
    for (int i = 0; i < s; ++i) word += 1 + max_survivors(config, i, candidates);
    return word;
  }

  static std::size_t bytes(const HipConfig& config, std::int64_t candidates) noexcept {
    return static_cast<std::size_t>(
        ceil_div(stage_word(config, config.num_stages(), candidates), 4) * 16);
  }

  CacheEntry(const HipConfig& config, std::int64_t candidates, std::byte* memory) noexcept
      : config_(config), candidates_(candidates), words_(reinterpret_cast<std::int32_t*>(memory)) {}

  /// False for zeroed memory.
  [[nodiscard]] bool filled() const noexcept { return words_[0] != 0; }
  [[nodiscard]] std::int64_t window_start() const noexcept { return words_[1]; }

  void set_window_start(std::int64_t w0) noexcept {
    words_[0] = 1;
    words_[1] = static_cast<std::int32_t>(w0);
  }

  /// Whether the survivors of stage s could come from a search up to W0: anything else is memory
  /// that was not zeroed, or that a plan of other maxima wrote.
  [[nodiscard]] bool is_valid(int s) const noexcept {
    const std::int64_t w0 = window_start();
    if (w0 < config_.sink || w0 - config_.sink > candidates_) return false;
    if ((w0 - config_.sink) % config_.block_k() != 0) return false;
    const std::int64_t chunk_size = stage_chunk_size(config_, s, w0 - config_.sink);
    const std::int32_t* stage = stage_words(s);
    const std::int64_t count = stage[0];
    if (count < 0 || count > max_survivors(config_, s, candidates_)) return false;
    if (count > kept_chunks(config_.stage(s), chunk_size)) return false;
    std::int64_t lowest = config_.sink;
    for (std::int64_t i = 1; i <= count; ++i) {
      if (stage[i] < lowest || stage[i] >= w0) return false;
      if ((stage[i] - config_.sink) % chunk_size != 0) return false;
      lowest = stage[i] + chunk_size;
    }
    return true;
  }

  std::int64_t load(int s, std::int32_t* starts) const noexcept {
    const std::int32_t* stage = stage_words(s);
    std::copy(stage + 1, stage + 1 + stage[0], starts);
    return stage[0];
  }

  void store(int s, const std::int32_t* starts, std::int64_t count) noexcept {
    std::int32_t* stage = stage_words(s);
    stage[0] = static_cast<std::int32_t>(count);
    std::copy(starts, starts + count, stage + 1);
  }

 private:
  [[nodiscard]] std::int32_t* stage_words(int s) const noexcept {
    return words_ + stage_word(config_, s, candidates_);
  }

  const HipConfig& config_;
  std::int64_t candidates_;
  std::int32_t* words_;
};

}  // namespace hip_attn::cpu
