/// One entry of a SelectionCache: what a search of one slot and KV head left behind.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hip_attn/core/cache_layout.hpp"
#include "hip_attn/core/search_plan.hpp"

namespace hip_attn::cpu {

class CacheEntry {
 public:
  static std::size_t bytes(const SearchPlan& plan) noexcept {
    return static_cast<std::size_t>(plan.cache_entry_words) * sizeof(std::int32_t);
  }

  CacheEntry(const SearchPlan& plan, std::byte* memory) noexcept
      : plan_(plan), words_(reinterpret_cast<std::int32_t*>(memory)) {}

  [[nodiscard]] std::int32_t state() const noexcept { return words_[CacheLayout::kState]; }
  [[nodiscard]] std::int32_t window_start() const noexcept {
    return words_[CacheLayout::kWindowStart];
  }

  void set(CacheState state, std::int32_t w0) noexcept {
    words_[CacheLayout::kState] = state;
    words_[CacheLayout::kWindowStart] = w0;
  }

  /// Whether the survivors of stage s could come from a search of this plan up to W0.
  [[nodiscard]] bool is_valid(int s) const noexcept {
    const std::int32_t w0 = window_start();
    if (!plan_.cached_window_holds(w0)) return false;
    const std::int32_t chunk_shift = plan_.chunk_shift(s, w0 - plan_.sink);
    const std::int32_t count = stage_words(s)[0];
    if (count < 0 || count > plan_.stages[s].max_survivors) return false;
    if (count > plan_.kept_chunks(s, chunk_shift)) return false;
    const std::int32_t* const starts = stage_words(s) + 1;
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int32_t before = i == 0 ? 0 : starts[i - 1];
      if (!cached_chunk_holds(starts[i], before, i == 0, plan_.sink, w0, chunk_shift)) return false;
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
    return words_ + plan_.stages[s].cache_word;
  }

  const SearchPlan& plan_;
  std::int32_t* words_;
};

}  // namespace hip_attn::cpu
