/// One unit (query block, KV head) from its selection to its output rows.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <optional>

#include "hip_attn/attention.hpp"
#include "hip_attn/core/attended_keys.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cpu/attend.hpp"
#include "hip_attn/cpu/call_error.hpp"
#include "hip_attn/cpu/scorer.hpp"
#include "hip_attn/cpu/search.hpp"
#include "hip_attn/cpu/selection_cache.hpp"
#include "hip_attn/cpu/spin.hpp"
#include "hip_attn/cpu/workspace.hpp"

namespace hip_attn::cpu {

/// Attended keys of one piece of decode's work. Prefill, whose units are many, attends to all keys
/// of a unit in one piece.
inline constexpr std::int64_t kPieceKeys = 8 * kTileKeys;

/// The blocks a unit attends to besides sink and window.
struct UnitSelection {
  const std::int32_t* blocks;
  std::int32_t count;
  std::int32_t window_start;
};

/// A unit works in phases: the scan of every stage, then attention. begin() and next_phase()
/// prepare one and say how many pieces it has; pieces may run in any thread, but are taken in
/// order. Queries and outputs are of T, the cache holds C; Traits: see traits.hpp.
template <typename Traits, Element T, StoredFor<T> C>
class Unit {
 public:
  Unit(const AttentionPlan& plan, const SearchPlan& search_plan, const AttentionArgs<T, C>& args,
       const QueryBlock& block, std::int64_t kv_head, const UnitMemory& memory, const C* zeros,
       CallError& error) noexcept
      : plan_(plan),
        search_plan_(search_plan),
        args_(args),
        block_(block),
        p0_(static_cast<std::int32_t>(block.p0)),
        kv_head_(kv_head),
        group_(plan.shape.num_q_heads / plan.shape.num_kv_heads),
        memory_(memory),
        error_(error),
        kernels_(Traits::kernels(plan.shape.head_dim)),
        kv_(args.kv, block.request, kv_head, zeros, error),
        queries_{query_row(args, block.request, block.first_row, kv_head * group_),
                 args.q.strides[0],
                 args.q.strides[1],
                 plan.shape.head_dim,
                 block.rows,
                 group_,
                 block.anchor,
                 plan.op},
        zeros_(zeros) {}

  /// The pieces of the first phase; 0: the unit is done, as in next_phase().
  std::int64_t begin(ThreadMemory& thread) {
    if (args_.selection) return attend_to(given_selection(), thread);
    const std::int32_t w0 = search_plan_.window_start(p0_);
    if (search_plan_.num_stages == 0) return attend_to({nullptr, 0, w0}, thread);
    if (p0_ < plan_.dense_until) return attend_to({nullptr, 0, search_plan_.sink}, thread);
    if (!begin_search(w0)) return 0;
    return search_on(thread);
  }

  /// After the last piece of a phase: the pieces of the next one.
  std::int64_t next_phase(ThreadMemory& thread) {
    if (scanning_) return search_on(thread);
    for (std::int64_t row = 0; row < block_.rows; ++row) {
      for (std::int64_t head = 0; head < group_; ++head) {
        const std::int64_t q_head = kv_head_ * group_ + head;
        const float lse = finish_row(queries_.layout(), memory_.state, row * group_ + head,
                                     &args_.out(block_.first_row + row, q_head, 0));
        if (args_.lse) (*args_.lse)(block_.first_row + row, q_head) = lse;
      }
    }
    return 0;
  }

  void run_piece(std::int64_t piece, ThreadMemory& thread) {
    if (scanning_) {
      scan_piece(piece, thread);
    } else {
      attend_piece(piece, thread);
    }
  }

 private:
  static constexpr UnitSelection kRefused{nullptr, -1, 0};

  // ---- Selection --------------------------------------------------------------------------------

  /// The caller's selection, when its blocks are ascending, between sink and window, and causal.
  UnitSelection given_selection() {
    const ConstBlockSelection& given = *args_.selection;
    const std::int64_t row = block_.selection_row;
    const std::int32_t count = given.counts(row, kv_head_);
    const std::int32_t w0 = given.window_start(row, kv_head_);
    const std::int32_t sink = search_plan_.sink;
    if (!given_count_holds(count, given.blocks.sizes[2])) {
      return refuse(CallError::Kind::kSelectionCount, row, count);
    }
    if (!given_window_holds(w0, sink, p0_)) {
      return refuse(CallError::Kind::kSelectionWindow, row, w0);
    }
    const std::int32_t* blocks = &given.blocks(row, kv_head_, 0);
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int32_t before = i == 0 ? 0 : blocks[i - 1];
      if (!given_block_holds(blocks[i], before, i == 0, sink, w0, search_plan_.block_shift)) {
        return refuse(CallError::Kind::kSelectionBlock, row, blocks[i]);
      }
    }
    return {blocks, count, w0};
  }

  UnitSelection refuse(CallError::Kind kind, std::int64_t where, std::int64_t value) {
    error_.report(kind, block_.request, kv_head_, where, value);
    return kRefused;
  }

  /// Prepares the search, from the stage on that the cache says when there is one. False: the cache
  /// holds no selection of this plan.
  bool begin_search(std::int32_t w0) {
    const StagesToRun all{0, search_plan_.num_stages};
    if (!args_.cache) {
      search_.emplace(search_plan_, w0, all, 0, memory_.search);
      selection_window_ = w0;
      return true;
    }
    const std::int64_t slot =
        args_.cache->slots ? (*args_.cache->slots)(block_.request) : block_.request;
    const std::size_t offset = static_cast<std::size_t>(slot) * plan_.selection_cache_slot_bytes +
                               static_cast<std::size_t>(kv_head_) * CacheEntry::bytes(search_plan_);
    CacheEntry& entry =
        entry_.emplace(search_plan_, static_cast<std::byte*>(args_.cache->data) + offset);
    // Empty, or ahead of the sequence after a rollback: everything runs.
    const bool is_usable = entry.state() != kCacheEmpty && entry.window_start() <= w0;
    const StagesToRun stages = is_usable ? stages_to_run(args_.cache->refresh_from(block_.request),
                                                         entry.state(), search_plan_.num_stages)
                                         : all;
    const std::int32_t cached_w0 = entry.window_start();
    const bool is_ahead = stages.end < all.end;
    if ((stages.first > 0 && !entry.is_valid(stages.first - 1)) ||
        (is_ahead && !entry.is_valid(all.end - 1))) {
      refuse(CallError::Kind::kCacheEntry, slot, cached_w0);
      return false;
    }
    const std::int64_t count =
        stages.first == 0 ? 0 : entry.load(stages.first - 1, memory_.search.starts);
    const std::int32_t search_w0 = stages.first == 0 ? w0 : cached_w0;
    entry.set(is_ahead ? kCacheAhead : kCacheSelection, search_w0);
    search_.emplace(search_plan_, search_w0, stages, count, memory_.search);
    is_ahead_ = is_ahead;
    selection_window_ = is_ahead ? cached_w0 : search_w0;
    return true;
  }

  /// The next scan of chunks or, when none is left, attention.
  std::int64_t search_on(ThreadMemory& thread) {
    scanning_ =
        search_->next_stage([this](int stage, const std::int32_t* starts, std::int64_t count) {
          if (entry_) entry_->store(stage, starts, count);
        });
    if (scanning_) {
      const StagePlan& stage = search_plan_.stages[search_->stage()];
      use_queries(stage.query_stride);
      if (stage.rule == ScanRule::kLandmark) use_landmarks(std::int64_t{1} << stage.chunk_shift);
      return search_->num_pieces();
    }
    if (is_ahead_) {  // the selection of before, whose W0 selection_window_ is
      const int end = search_plan_.num_stages;
      const std::int64_t cached = entry_->load(end - 1, memory_.search.starts);
      search_.emplace(search_plan_, selection_window_, StagesToRun{end, end}, cached,
                      memory_.search);
    }
    const auto [starts, count] = search_->selected();
    for (std::int64_t i = 0; i < count; ++i) starts[i] >>= search_plan_.block_shift;
    return attend_to({starts, static_cast<std::int32_t>(count), selection_window_}, thread);
  }

  void scan_piece(std::int64_t piece, ThreadMemory& thread) {
    const UnitScorer<C> scorer(kernels_, kv_, memory_.queries, queries_.layout(), pooled_rows_,
                               thread.tile, landmarks_ ? &*landmarks_ : nullptr, memory_.parts);
    thread.counters[search_->stage()] +=
        search_->run_piece(piece, scorer, logit_rule(), thread.products);
  }

  void use_landmarks(std::int64_t chunk_size) {
    landmarks_.emplace(*args_.landmarks, chunk_size, block_.request, kv_head_, zeros_, error_);
    split_queries(memory_.queries, queries_.layout().size(), memory_.parts);
  }

  /// Puts the queries pooled by `query_stride` into memory, unless they are there.
  void use_queries(std::int64_t query_stride) {
    if (pooled_by_ == query_stride) return;
    pooled_rows_ = pool_queries(queries_, query_stride, memory_.queries);
    pooled_by_ = query_stride;
  }

  void write_selection(const UnitSelection& selection) const {
    const BlockSelection& out = *args_.selection_out;
    const std::int64_t row = block_.selection_row;
    std::copy(selection.blocks, selection.blocks + selection.count, &out.blocks(row, kv_head_, 0));
    out.counts(row, kv_head_) = selection.count;
    out.window_start(row, kv_head_) = selection.window_start;
  }

  // ---- Attention --------------------------------------------------------------------------------

  std::int64_t attend_to(const UnitSelection& selection, ThreadMemory& thread) {
    scanning_ = false;
    if (selection.count < 0) return 0;  // reported
    if (args_.selection_out) write_selection(selection);
    const std::int32_t end = p0_ + static_cast<std::int32_t>(block_.rows);
    const std::int32_t block_shift = search_plan_.block_shift;
    keys_ = {std::min(search_plan_.sink, end),
             selection.blocks,
             selection.count,
             block_shift,
             block_shift,
             selection.window_start,
             end};
    // No row sees what lies before.
    keys_.window_start = keys_.row_window_start(p0_, search_plan_.row_window);
    count_attended(thread);
    use_queries(1);
    memory_.state.clear(queries_.layout());
    merged_.store(0, std::memory_order_relaxed);
    return plan_.op == Operator::kPrefill ? 1 : ceil_div(keys_.count(), kPieceKeys);
  }

  /// The first piece goes to the unit's state at once, the others are merged into it in ascending
  /// order: sums do not depend on who takes which piece.
  void attend_piece(std::int64_t piece, ThreadMemory& thread) {
    const UnitAttention<C> attention(kernels_, kv_, keys_, search_plan_.row_window, memory_.queries,
                                     queries_, p0_, logit_rule());
    if (plan_.op == Operator::kPrefill) {
      return attention.attend(0, keys_.count(), memory_.state, thread.tile);
    }
    const std::int64_t first = piece * kPieceKeys;
    const std::int64_t last = std::min<std::int64_t>(first + kPieceKeys, keys_.count());
    if (piece == 0) {
      attention.attend(first, last, memory_.state, thread.tile);
    } else {
      thread.part.clear(queries_.layout());
      attention.attend(first, last, thread.part, thread.tile);
      Spin spin;  // whoever has the piece before is at work on it
      while (merged_.load(std::memory_order_acquire) != piece) spin.wait();
      merge_state(queries_.layout(), thread.part, memory_.state);
    }
    merged_.store(piece + 1, std::memory_order_release);
  }

  [[nodiscard]] LogitRule logit_rule() const noexcept {
    return {args_.scale.value_or(1.f / std::sqrt(static_cast<float>(queries_.head_dim))),
            args_.logit_softcap.value_or(0.f)};
  }

  void count_attended(ThreadMemory& thread) const {
    std::int64_t* counters = thread.counters + plan_.config.num_stages();
    counters[0] += keys_.count();
    for (std::int32_t p = p0_; p < keys_.end; ++p) {
      counters[1] += keys_.until(p, search_plan_.row_window).count();
    }
  }

  const AttentionPlan& plan_;
  const SearchPlan& search_plan_;
  const AttentionArgs<T, C>& args_;
  const QueryBlock& block_;
  std::int32_t p0_;  // of the block
  std::int64_t kv_head_;
  std::int64_t group_;
  UnitMemory memory_;
  CallError& error_;
  const TileKernels& kernels_;
  KvRows<C> kv_;
  UnitQueries<T> queries_;
  std::int64_t pooled_by_ = 0;  // what memory_.queries holds; 0: nothing
  std::int64_t pooled_rows_ = 0;
  std::optional<CacheEntry> entry_;  // of the selection cache
  std::optional<TreeSearch<typename Traits::Rules>> search_;
  std::optional<LandmarkRows<C>> landmarks_;  // of the stage that reads some
  const C* zeros_;
  bool scanning_ = false;
  bool is_ahead_ = false;              // the search, which leaves the selection as it is
  std::int32_t selection_window_ = 0;  // W0 of what is attended to
  AttendedKeys keys_{};
  std::atomic<std::int64_t> merged_ = 0;  // pieces of attention that the unit's state holds
};

}  // namespace hip_attn::cpu
