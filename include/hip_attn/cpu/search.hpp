/// The tree search of one unit: stages of scan and select over shrinking chunks
/// (docs/guide/algorithm.md, "The tree search").
#pragma once

#include <cstdint>
#include <utility>

#include "hip_attn/config.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/select.hpp"
#include "hip_attn/search_plan.hpp"

namespace hip_attn::cpu {

/// Scratch of a search, each array [max_chunks(config, candidates)].
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
  /// Of stages first_stage, first_stage + 1, ... over the candidates [config.sink, w0). For
  /// first_stage > 0 memory.starts holds the `count` survivors of the stage before.
  TreeSearch(const HipConfig& config, std::int64_t w0, int first_stage, std::int64_t count,
             const SearchMemory& memory) noexcept
      : config_(&config),
        w0_(w0),
        candidates_(w0 - config.sink),
        stage_(first_stage - 1),
        count_(count),
        memory_(memory) {
    if (first_stage > 0) {
      chunk_size_ = stage_chunk_size(config, first_stage - 1, candidates_);
      return;
    }
    // The first cut: one chunk per first_chunk_size tokens.
    chunk_size_ = first_chunk_size(config, candidates_);
    count_ = 0;
    for (std::int64_t start = config.sink; start < w0; start += chunk_size_) {
      memory_.starts[count_++] = static_cast<std::int32_t>(start);
    }
  }

  /// Goes on to the next stage whose chunks have to be scored; false: none is left. Stages that can
  /// drop nothing read no key. on_survivors(stage, starts, count) is called for each of these.
  template <typename OnSurvivors>
  bool next_scan(OnSurvivors&& on_survivors) {
    while (++stage_ < config_->num_stages()) {
      cut(stage_chunk_size(*config_, stage_, candidates_));
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
    return score_chunks(config_->stage(stage_).rule, memory_.starts + first, last - first,
                        chunk_size_, w0_, score_keys, memory_.scores + first);
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
    cut(config_->block_k());
    return {memory_.starts, count_};
  }

 private:
  [[nodiscard]] std::int64_t kept() const noexcept {
    return kept_chunks(config_->stage(stage_), chunk_size_);
  }

  /// Cuts the chunks into chunks of `size`, dropping those that begin at or after W0.
  void cut(std::int64_t size) noexcept {
    if (size == chunk_size_) return;
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::int64_t end = std::min(memory_.starts[i] + chunk_size_, w0_);
      for (std::int64_t start = memory_.starts[i]; start < end; start += size) {
        memory_.other_starts[n++] = static_cast<std::int32_t>(start);
      }
    }
    std::swap(memory_.starts, memory_.other_starts);
    chunk_size_ = size;
    count_ = n;
  }

  const HipConfig* config_;
  std::int64_t w0_;
  std::int64_t candidates_;
  int stage_;
  std::int64_t count_;
  std::int64_t chunk_size_ = 0;
  SearchMemory memory_;
};

/// A whole search. score_keys(stage, positions, n, a): see scan.hpp. on_survivors(stage, starts,
/// count) is called after each stage. key_reads[stage] is added to. Returns the first keys of the
/// selected blocks, which lie in `memory`, and their number.
template <typename ScoreKeys, typename OnSurvivors>
std::pair<std::int32_t*, std::int64_t> search(const HipConfig& config, std::int64_t w0,
                                              int first_stage, std::int64_t count,
                                              const SearchMemory& memory, ScoreKeys&& score_keys,
                                              OnSurvivors&& on_survivors, std::int64_t* key_reads) {
  TreeSearch tree(config, w0, first_stage, count, memory);
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
