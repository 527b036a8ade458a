/// The tree search of one unit: stages of scan and select over shrinking chunks
/// (docs/guide/algorithm.md, "The tree search"). A stage is a rule (scan.hpp), a scorer, which is
/// the caller's (scorer.hpp), and a reduction (reduction.hpp).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>

#include "hip_attn/core/cache_layout.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cpu/reduction.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/select.hpp"

namespace hip_attn::cpu {

/// Chunks of one piece of a stage.
inline constexpr std::int64_t kPieceChunks = 4 * kScanBatchChunks;

/// Scratch of a search, each array [max_chunks of the plan].
struct SearchMemory {
  std::int32_t* starts;        ///< first keys of the chunks, ascending: input and result
  std::int32_t* other_starts;  ///< exchanged with starts whenever chunks are cut
  float* scores;
  float* scratch;
  /// Where a stage needs them (StagePlan::needs_row_logits): [rows of its scorer, max_chunks].
  float* row_logits = nullptr;
};

/// A search between two scans: what a stage does before and after it is one thread's work, while
/// the pieces of a scan can be shared out.
template <typename Rules = BuiltRules>
class TreeSearch {
 public:
  /// Of the stages to run over the candidates [plan.sink, w0). Where the first is not stage 0,
  /// memory.starts holds the `count` survivors of the stage before.
  TreeSearch(const SearchPlan& plan, std::int32_t w0, StagesToRun stages, std::int64_t count,
             const SearchMemory& memory) noexcept
      : plan_(&plan),
        w0_(w0),
        candidates_(w0 - plan.sink),
        stage_(stages.first - 1),
        end_stage_(stages.end),
        count_(count),
        memory_(memory) {
    if (stages.first > 0) {
      chunk_shift_ = plan.chunk_shift(stages.first - 1, candidates_);
      return;
    }
    // The first cut: chunks of the whole range.
    chunk_shift_ = plan.chunk_shift(0, candidates_);
    count_ = 0;
    for (std::int64_t start = plan.sink; start < w0; start += chunk_size()) {
      memory_.starts[count_++] = static_cast<std::int32_t>(start);
    }
  }

  /// After the last piece of a stage, or at the beginning: goes on to the next stage that scores
  /// chunks; false: none is left. Stages that can drop nothing read no key. on_survivors(stage,
  /// starts, count) is called for each stage that ends.
  template <typename OnSurvivors>
  bool next_stage(OnSurvivors&& on_survivors) {
    if (scoring_) {
      if (plan_->stages[stage_].needs_row_logits()) {
        reduce_rows(plan_->stages[stage_].reduction, row_logits(), count_, memory_.scores);
      }
      count_ = select_chunks(memory_.starts, memory_.scores, count_, kept(), memory_.scratch);
      on_survivors(stage_, memory_.starts, count_);
    }
    while (++stage_ < end_stage_) {
      cut(plan_->chunk_shift(stage_, candidates_));
      scoring_ = count_ > kept();
      if (scoring_) return true;
      on_survivors(stage_, memory_.starts, count_);
    }
    return scoring_ = false;
  }

  [[nodiscard]] int stage() const noexcept { return stage_; }
  [[nodiscard]] std::int64_t num_pieces() const noexcept { return ceil_div(count_, kPieceChunks); }

  /// One piece of the stage, which other threads may run at the same time. Every piece of a stage
  /// has a scorer of as many rows. products: [rows][kScanBatchKeys] where row logits are needed.
  /// Returns what was read.
  template <typename Scorer>
  std::int64_t run_piece(std::int64_t piece, const Scorer& scorer, LogitRule rule = {1.f, 0.f},
                         float* products = nullptr) {
    const StagePlan& stage = plan_->stages[stage_];
    if (!stage.needs_row_logits()) {
      ChunkMaxima<Scorer> logits(scorer);
      return scan(piece, logits,
                  [&](std::int64_t first) { logits.move_to(memory_.scores + first); });
    }
    if (stage.reduction == Reduction::kMaximum) rule = {1.f, 0.f};  // compares plain products
    num_rows_ = scorer.num_rows();
    ChunkRowLogits<Scorer> logits(scorer, row_logits(), products, rule, stage.reduction);
    return scan(piece, logits, [&](std::int64_t first) { logits.move_to(first); });
  }

  /// The first keys of the selected blocks once no stage of all is left, writable, and their
  /// number.
  std::pair<std::int32_t*, std::int64_t> selected() noexcept {
    // One stage whose chunk size doubled leaves chunks of several blocks.
    cut(plan_->block_shift);
    return {memory_.starts, count_};
  }

 private:
  /// move_to(first) is called before the logits of chunks from `first` on.
  template <typename Logits, typename MoveTo>
  std::int64_t scan(std::int64_t piece, Logits& logits, MoveTo&& move_to) const {
    const std::int64_t first = piece * kPieceChunks;
    const std::int64_t count = std::min(kPieceChunks, count_ - first);
    return Rules::visit(plan_->stages[stage_].rule, [&](auto rule) {
      return scan_chunks(rule, memory_.starts + first, count, chunk_size(), w0_, logits,
                         [&](std::int64_t at) { move_to(first + at); });
    });
  }

  [[nodiscard]] RowLogits row_logits() const noexcept {
    return {memory_.row_logits, plan_->max_chunks, num_rows_};
  }

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
  int end_stage_;
  std::int64_t count_;
  std::int32_t chunk_shift_ = 0;
  bool scoring_ = false;
  SearchMemory memory_;
  std::atomic<std::int64_t> num_rows_ = 0;  // of the stage's scorers; each piece writes the same
};

/// A whole search by one thread. scorer_of(stage) gives the scorer of a stage. on_survivors(stage,
/// starts, count) is called after each stage. reads[stage] is added to. Returns the first keys of
/// the selected blocks, which lie in the search's memory, and their number.
template <typename Rules, typename ScorerOf, typename OnSurvivors>
std::pair<std::int32_t*, std::int64_t> run_search(TreeSearch<Rules>& search, ScorerOf&& scorer_of,
                                                  OnSurvivors&& on_survivors, std::int64_t* reads,
                                                  LogitRule rule = {1.f, 0.f},
                                                  float* products = nullptr) {
  while (search.next_stage(on_survivors)) {
    const auto& scorer = scorer_of(search.stage());
    for (std::int64_t piece = 0; piece < search.num_pieces(); ++piece) {
      reads[search.stage()] += search.run_piece(piece, scorer, rule, products);
    }
  }
  return search.selected();
}

}  // namespace hip_attn::cpu
