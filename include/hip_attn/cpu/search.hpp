/// The tree search of one unit: stages of scan and select over shrinking chunks
/// (docs/algorithm.md, "The tree search").
#pragma once

#include <cstdint>
#include <utility>

#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/select.hpp"

namespace hip_attn::cpu {

/// Scratch of a search, each array [max_chunks of the plan].
struct SearchMemory {
  std::int32_t* starts;        ///< first keys of the chunks, ascending: input and result
  std::int32_t* other_starts;  ///< exchanged with starts whenever chunks are cut
  float* scores;
  float* scratch;
};

/// A search between two of its scans: what a stage does before and after its chunks are scored is
/// one thread's work, while the chunks themselves can be shared out.
class TreeSearch {
 public:
  /// Of stages first_stage, first_stage + 1, ... over the candidates [plan.sink, w0). For
  /// first_stage > 0 memory.starts holds the `count` survivors of the stage before.
  TreeSearch(const SearchPlan& plan, std::int32_t w0, int first_stage, std::int64_t count,
             const SearchMemory& memory) noexcept
      : plan_(&plan),
        w0_(w0),
        candidates_(w0 - plan.sink),
        stage_(first_stage - 1),
        count_(count),
        memory_(memory) {
    if (first_stage > 0) {
      chunk_shift_ = plan.chunk_shift(first_stage - 1, candidates_);
      return;
    }
    count_ = 0;
    // The first cut: chunks of the whole range.
    chunk_shift_ = plan.chunk_shift(0, candidates_);
    for (std::int64_t start = plan.sink; start < w0; start += chunk_size()) {
      memory_.starts[count_++] = static_cast<std::int32_t>(start);
    }
  }

  /// Goes on to the next stage whose chunks have to be scored; false: none is left. Stages that can
  /// drop nothing read no key. on_survivors(stage, starts, count) is called for each of these.
  template <typename OnSurvivors>
  bool next_scan(OnSurvivors&& on_survivors) {
    while (++stage_ < plan_->num_stages) {
      cut(plan_->chunk_shift(stage_, candidates_));
      if (count_ > kept()) return true;
      on_survivors(stage_, memory_.starts, count_);
    }
    return false;
  }

  [[nodiscard]] int stage() const noexcept { return stage_; }
  [[nodiscard]] std::int64_t num_chunks() const noexcept { return count_; }

  /// Scores chunks [first, last) of the stage: see score_chunks. Returns the number of keys read.
  template <typename ScoreKeys>
  std::int64_t scan(std::int64_t first, std::int64_t last, ScoreKeys&& score_keys) const {
    return score_chunks(plan_->stages[stage_].rule, memory_.starts + first, last - first,
                        chunk_size(), w0_, score_keys, memory_.scores + first);
  }

  /// Keeps the best chunks of the stage, all of which have been scored.
  template <typename OnSurvivors>
  void select(OnSurvivors&& on_survivors) {
    count_ = select_chunks(memory_.starts, memory_.scores, count_, kept(), memory_.scratch);
    on_survivors(stage_, memory_.starts, count_);
  }

  /// The first keys of the selected blocks once no scan is left, writable, and their number.
  std::pair<std::int32_t*, std::int64_t> selected() noexcept {
    // One stage whose chunk size doubled leaves chunks of several blocks.
    cut(plan_->block_shift);
    return {memory_.starts, count_};
  }

 private:
  [[nodiscard]] std::int64_t kept() const noexcept {
    return plan_->kept_chunks(stage_, chunk_shift_);
  }
  [[nodiscard]] std::int64_t chunk_size() const noexcept { return std::int64_t{1} << chunk_shift_; }

  /// Cuts the chunks into chunks of 2^shift keys, dropping those that begin at or after W0.
  void cut(std::int32_t shift) noexcept {
    if (shift == chunk_shift_) return;
    const std::int64_t size = std::int64_t{1} << shift;
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::int64_t end = std::min<std::int64_t>(memory_.starts[i] + chunk_size(), w0_);
      for (std::int64_t start = memory_.starts[i]; start < end; start += size) {
        memory_.other_starts[n++] = static_cast<std::int32_t>(start);
      }
    }
    std::swap(memory_.starts, memory_.other_starts);
    chunk_shift_ = shift;
    count_ = n;
  }

  const SearchPlan* plan_;
  std::int32_t w0_;
  std::int32_t candidates_;
  int stage_;
  std::int64_t count_;
  std::int32_t chunk_shift_ = 0;
  SearchMemory memory_;
};

/// A whole search. score_keys(stage, positions, n, a): see scan.hpp. on_survivors(stage, starts,
/// count) is called after each stage. key_reads[stage] is added to. Returns the first keys of the
/// selected blocks, which lie in `memory`, and their number.
template <typename ScoreKeys, typename OnSurvivors>
std::pair<std::int32_t*, std::int64_t> search(const SearchPlan& plan, std::int32_t w0,
                                              int first_stage, std::int64_t count,
                                              const SearchMemory& memory, ScoreKeys&& score_keys,
                                              OnSurvivors&& on_survivors, std::int64_t* key_reads) {
  TreeSearch tree(plan, w0, first_stage, count, memory);
  while (tree.next_scan(on_survivors)) {
    const int stage = tree.stage();
    key_reads[stage] +=
        tree.scan(0, tree.num_chunks(), [&](const std::int32_t* positions, int n, float* a) {
          score_keys(stage, positions, n, a);
        });
    tree.select(on_survivors);
  }
  return tree.selected();
}

}  // namespace hip_attn::cpu
