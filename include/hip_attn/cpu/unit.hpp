/// One unit (query block, KV head) from its selection to its output rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hip_attn/attention.hpp"
#include "hip_attn/cpu/attend.hpp"
#include "hip_attn/cpu/call_error.hpp"
#include "hip_attn/cpu/search.hpp"
#include "hip_attn/cpu/selection_cache.hpp"
#include "hip_attn/cpu/workspace.hpp"

namespace hip_attn::cpu {

static_assert(kScanBatchKeys <= kTileKeys);

/// The blocks a unit attends to besides sink and window.
struct UnitSelection {
  const std::int32_t* blocks;
  std::int64_t count;
  std::int64_t window_start;
};

template <Element T>
class UnitRunner {
 public:
  UnitRunner(const AttentionPlan& plan, const AttentionArgs<T>& args, const QueryBlock& block,
             std::int64_t kv_head, ThreadMemory& memory, CallError& error) noexcept
      : plan_(plan),
        config_(plan.config),
        args_(args),
        block_(block),
        kv_head_(kv_head),
        group_(plan.shape.num_q_heads / plan.shape.num_kv_heads),
        memory_(memory),
        error_(error),
        kernels_(tile_kernels(plan.shape.head_dim)),
        kv_(args.kv, block.request, kv_head, reinterpret_cast<const T*>(memory.zeros), error),
        queries_{&args.q(block.first_row, kv_head * group_, 0),
                 args.q.strides[0],
                 args.q.strides[1],
                 plan.shape.head_dim,
                 block.rows,
                 group_,
                 block.anchor} {}

  void run() {
    const UnitSelection selection = args_.selection ? given_selection() : search_selection();
    if (selection.count < 0) return;  // reported
    if (args_.selection_out) write_selection(selection);
    attend_to(selection);
  }

 private:
  static constexpr UnitSelection kRefused{nullptr, -1, 0};

  /// The caller's selection, when its blocks are ascending, between sink and window, and causal.
  UnitSelection given_selection() {
    const ConstBlockSelection& given = *args_.selection;
    const std::int64_t row = block_.selection_row;
    const std::int64_t count = given.counts(row, kv_head_);
    const std::int64_t w0 = given.window_start(row, kv_head_);
    const std::int64_t block_k = config_.block_k();
    if (count < 0 || count > given.blocks.sizes[2]) {
      return refuse(CallError::Kind::kSelectionCount, row, count);
    }
    if (w0 < config_.sink || (w0 > config_.sink && w0 > block_.p0 + 1)) {
      return refuse(CallError::Kind::kSelectionWindow, row, w0);
    }
    const std::int32_t* blocks = &given.blocks(row, kv_head_, 0);
    std::int64_t lowest = ceil_div(config_.sink, block_k);
    for (std::int64_t i = 0; i < count; ++i) {
      if (blocks[i] < lowest || (blocks[i] + std::int64_t{1}) * block_k > w0) {
        return refuse(CallError::Kind::kSelectionBlock, row, blocks[i]);
      }
      lowest = blocks[i] + std::int64_t{1};
    }
    return {blocks, count, w0};
  }

  UnitSelection refuse(CallError::Kind kind, std::int64_t where, std::int64_t value) {
    error_.report(kind, block_.request, kv_head_, where, value);
    return kRefused;
  }

  /// Searches, from the stage on that the cache says when there is one.
  UnitSelection search_selection() {
    const std::int64_t w0 = window_start(config_, block_.p0);
    if (config_.is_dense() || block_.p0 < plan_.dense_until) return {nullptr, 0, config_.sink};
    if (!args_.cache) return search_from(0, 0, w0, [](int, const std::int32_t*, std::int64_t) {});

    const std::int64_t candidates = max_candidates(config_, plan_.shape.max_seq_len);
    const std::int64_t slot =
        args_.cache->slots ? (*args_.cache->slots)(block_.request) : block_.request;
    CacheEntry entry(config_, candidates,
                     static_cast<std::byte*>(args_.cache->data) +
                         slot * plan_.selection_cache_slot_bytes +
                         kv_head_ * CacheEntry::bytes(config_, candidates));
    int first_stage =
        std::clamp(args_.cache->refresh_from(block_.request), 0, config_.num_stages());
    // Empty, or ahead of the sequence after a rollback: everything runs.
    if (!entry.filled() || entry.window_start() > w0) first_stage = 0;
    if (first_stage > 0 && !entry.is_valid(first_stage - 1)) {
      return refuse(CallError::Kind::kCacheEntry, slot, entry.window_start());
    }
    std::int64_t count = 0;
    if (first_stage == 0) {
      entry.set_window_start(w0);
    } else {
      count = entry.load(first_stage - 1, memory_.search.starts);
    }
    return search_from(
        first_stage, count, entry.window_start(),
        [&](int s, const std::int32_t* starts, std::int64_t n) { entry.store(s, starts, n); });
  }

  template <typename OnSurvivors>
  UnitSelection search_from(int first_stage, std::int64_t count, std::int64_t w0,
                            OnSurvivors&& on_survivors) {
    const auto score_keys = [this](int s, const std::int32_t* positions, int n, float* a) {
      use_queries(config_.stages[s].query_stride);
      score(positions, n, a);
    };
    count = search(config_, w0, first_stage, count, memory_.search, score_keys, on_survivors,
                   memory_.counters);
    std::int32_t* blocks = memory_.search.starts;
    for (std::int64_t i = 0; i < count; ++i) blocks[i] /= config_.block_k();
    return {blocks, count, w0};
  }

  /// Puts the queries pooled by `query_stride` into the panels, unless they are there.
  void use_queries(std::int64_t query_stride) {
    if (pooled_by_ == query_stride) return;
    pooled_rows_ = pool_queries(queries_, query_stride, memory_.panels);
    pooled_by_ = query_stride;
  }

  /// a(j) = max over the unit's query heads and pooled rows of q . k_j.
  void score(const std::int32_t* positions, int n, float* a) {
    const T* rows[kTileKeys];
    kv_.find(positions, n, rows, nullptr);
    load_rows(kernels_, rows, n, memory_.attend.keys);
    std::fill(memory_.best, memory_.best + n * kLanes, -std::numeric_limits<float>::infinity());
    for (std::int64_t panel = 0; panel < num_panels(pooled_rows_); ++panel) {
      kernels_.dot(memory_.attend.keys, memory_.panels + panel * kLanes * queries_.head_dim, n,
                   memory_.attend.scores);
      kernels_.lane_max(memory_.attend.scores, n, memory_.best);
    }
    kernels_.reduce_max(memory_.best, n, a);
  }

  void write_selection(const UnitSelection& selection) {
    const BlockSelection& out = *args_.selection_out;
    const std::int64_t row = block_.selection_row;
    std::copy(selection.blocks, selection.blocks + selection.count, &out.blocks(row, kv_head_, 0));
    out.counts(row, kv_head_) = static_cast<std::int32_t>(selection.count);
    out.window_start(row, kv_head_) = static_cast<std::int32_t>(selection.window_start);
  }

  void attend_to(const UnitSelection& selection) {
    const std::int64_t end = block_.p0 + block_.rows;
    const AttendedKeys keys{std::min(config_.sink, end), selection.blocks,       selection.count,
                            config_.block_k(),           selection.window_start, end};
    count_attended(keys);
    use_queries(1);
    const LogitRule rule{
        args_.scale.value_or(1.f / std::sqrt(static_cast<float>(queries_.head_dim))),
        args_.logit_softcap.value_or(0.f)};
    attend(kernels_, kv_, keys, memory_.panels, queries_, block_.p0, rule, memory_.attend);
    for (std::int64_t row = 0; row < block_.rows; ++row) {
      for (std::int64_t head = 0; head < group_; ++head) {
        const std::int64_t q_head = kv_head_ * group_ + head;
        const float lse = finish_row(memory_.attend, row * group_ + head, queries_.head_dim,
                                     &args_.out(block_.first_row + row, q_head, 0));
        if (args_.lse) (*args_.lse)(block_.first_row + row, q_head) = lse;
      }
    }
  }

  void count_attended(const AttendedKeys& keys) {
    std::int64_t* counters = memory_.counters + config_.num_stages();
    counters[0] += keys.count();
    for (std::int64_t end = block_.p0 + 1; end <= keys.end; ++end) {
      AttendedKeys row = keys;
      row.sink_end = std::min(keys.sink_end, end);
      row.end = end;
      counters[1] += row.count();
    }
  }

  const AttentionPlan& plan_;
  const HipConfig& config_;
  const AttentionArgs<T>& args_;
  const QueryBlock& block_;
  std::int64_t kv_head_;
  std::int64_t group_;
  ThreadMemory& memory_;
  CallError& error_;
  const TileKernels& kernels_;
  KvRows<T> kv_;
  UnitQueries<T> queries_;
  std::int64_t pooled_by_ = 0;  // what memory_.panels holds; 0: nothing
  std::int64_t pooled_rows_ = 0;
};

}  // namespace hip_attn::cpu
