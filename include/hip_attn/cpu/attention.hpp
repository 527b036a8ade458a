/// Prefill and decode on the CPU: a call is a list of units (query block, KV head), which the
/// threads that run it share out.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>

#include "hip_attn/attention.hpp"
#include "hip_attn/cpu/shared_work.hpp"
#include "hip_attn/cpu/unit.hpp"

namespace hip_attn::cpu {

/// Lists the query blocks of a call (docs/guide/algorithm.md, "Query blocks") and returns their
/// number.
template <Element T, StoredFor<T> C>
std::int64_t list_query_blocks(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                               QueryBlock* blocks) noexcept {
  std::int64_t n = 0;
  for (std::int64_t b = 0; b < args.seq_lens.sizes[0]; ++b) {
    const std::int64_t first_row = args.cu_seqlens_q(b);
    const std::int64_t q_len = args.cu_seqlens_q(b + 1) - first_row;
    const std::int64_t first_position = args.seq_lens(b) - q_len;
    if (q_len == 0 || args.seq_lens(b) == 0) continue;
    if (plan.op == Operator::kDecode) {
      blocks[n++] = {b, first_row, q_len, first_position, 0, b};
      continue;
    }
    const std::int64_t block_q = plan.config.block_q;
    std::int64_t selection_row_ = selection_row(first_row, b, 0, block_q);
    for (std::int64_t row = 0; row < q_len;) {
      const std::int64_t p0 = first_position + row;
      const std::int64_t rows = std::min(block_q - p0 % block_q, q_len - row);
      blocks[n++] = {b, first_row + row, rows, p0, p0 % block_q, selection_row_++};
      row += rows;
    }
  }
  return n;
}

/// Rows of requests without keys (padding): out = 0, lse = -inf.
template <Element T, StoredFor<T> C>
void write_empty_rows(const AttentionPlan& plan, const AttentionArgs<T, C>& args) noexcept {
  for (std::int64_t b = 0; b < args.seq_lens.sizes[0]; ++b) {
    if (args.seq_lens(b) != 0) continue;
    for (std::int64_t row = args.cu_seqlens_q(b); row < args.cu_seqlens_q(b + 1); ++row) {
      for (std::int64_t head = 0; head < plan.shape.num_q_heads; ++head) {
        T* out = &args.out(row, head, 0);
        std::fill(out, out + plan.shape.head_dim, from_float<T>(0.f));
        if (args.lse) (*args.lse)(row, head) = -std::numeric_limits<float>::infinity();
      }
    }
  }
}

/// A unit that is under way, or none.
template <Element T, StoredFor<T> C>
struct UnitSlot {
  PieceCounter pieces;
  std::atomic<bool> busy = false;
  std::optional<Unit<T, C>> unit;
};

/// A checked call, made by one thread in a workspace and run by any number of them.
template <Element T, StoredFor<T> C>
class alignas(64) Call {
 public:
  static std::int64_t bytes(const AttentionPlan& plan) noexcept {
    const auto num_slots = static_cast<std::size_t>(plan.num_threads);
    return static_cast<std::int64_t>(sizeof(Call) + num_slots * sizeof(UnitSlot<T, C>));
  }

  /// Makes the call in the memory of a workspace, where it needs no destruction.
  static Call& make(const AttentionPlan& plan, const AttentionArgs<T, C>& args, std::byte* memory) {
    const CpuWorkspace workspace = carve(plan, bytes(plan), memory);
    return *::new (static_cast<void*>(workspace.call)) Call(plan, args, workspace);
  }

  /// Threads that find something to do.
  [[nodiscard]] int useful_threads() const noexcept { return useful_threads_; }
  [[nodiscard]] const CallError& error() const noexcept { return error_; }

  /// Works until the call is complete, as thread `number` below plan.num_threads. The thread's own
  /// unit comes first, then a new one, then the units of others.
  void work(int number) {
    ThreadMemory mine = memory_of(number).thread;
    UnitSlot<T, C>& own = slots_[number];
    Spin spin;
    while (!complete_.load(std::memory_order_acquire)) {
      if (run_piece(own, mine) || begin_unit(own, number, mine) || help_others(number, mine)) {
        spin = {};
      } else {
        spin.wait();  // others are at work, or the call is complete
      }
    }
  }

 private:
  Call(const AttentionPlan& plan, const AttentionArgs<T, C>& args, const CpuWorkspace& workspace)
      : plan_(plan),
        search_plan_(make_search_plan(plan.config, plan.shape.max_seq_len)),
        args_(args),
        workspace_(workspace),
        num_threads_(plan.num_threads),
        slots_(reinterpret_cast<UnitSlot<T, C>*>(workspace.call + sizeof(Call))) {
    const std::int64_t num_heads = plan.shape.num_kv_heads;
    const auto zero_bytes = static_cast<std::size_t>(plan.shape.head_dim) * sizeof(float);
    std::fill(workspace.zeros, workspace.zeros + zero_bytes, std::byte{0});
    for (int i = 0; i < num_threads_; ++i) {
      ::new (static_cast<void*>(slots_ + i)) UnitSlot<T, C>();
      std::fill_n(memory_of(i).thread.counters, num_counters(), 0);
    }
    write_empty_rows(plan, args);
    const std::int64_t num_blocks = list_query_blocks(plan, args, workspace.query_blocks);
    units_to_begin_ = units_to_end_ = num_blocks * num_heads;
    complete_ = num_blocks == 0;
    std::int64_t pieces = 0;
    for (std::int64_t i = 0; i < num_blocks && pieces < num_threads_; ++i) {
      pieces += num_heads * (1 + workspace.query_blocks[i].p0 / kPieceKeys);
    }
    useful_threads_ = static_cast<int>(std::clamp<std::int64_t>(pieces, 1, num_threads_));
  }

  [[nodiscard]] int num_counters() const noexcept { return plan_.config.num_stages() + 2; }

  [[nodiscard]] MemoryOfThread memory_of(int number) const noexcept {
    Carver carver(workspace_.threads + static_cast<std::size_t>(number) * workspace_.thread_bytes);
    return carve_thread(plan_, carver);
  }

  bool begin_unit(UnitSlot<T, C>& slot, int number, ThreadMemory& thread) {
    if (slot.busy.load(std::memory_order_acquire)) return false;
    // The last blocks of a prompt attend to most: they go first, so that no thread ends on them.
    if (units_to_begin_.load(std::memory_order_relaxed) <= 0) return false;
    const std::int64_t unit = units_to_begin_.fetch_sub(1, std::memory_order_relaxed) - 1;
    if (unit < 0) return false;
    const std::int64_t num_heads = plan_.shape.num_kv_heads;
    slot.busy.store(true, std::memory_order_relaxed);
    slot.unit.emplace(plan_, search_plan_, args_, workspace_.query_blocks[unit / num_heads],
                      unit % num_heads, memory_of(number).unit,
                      reinterpret_cast<const C*>(workspace_.zeros), error_);
    go_on(slot, slot.unit->begin(thread));
    return true;
  }

  bool run_piece(UnitSlot<T, C>& slot, ThreadMemory& thread) {
    const std::int64_t piece = slot.pieces.take();
    if (piece < 0) return false;
    slot.unit->run_piece(piece, thread);
    if (slot.pieces.finish()) go_on(slot, slot.unit->next_phase(thread));
    return true;
  }

  bool help_others(int number, ThreadMemory& thread) {
    for (int i = 1; i < num_threads_; ++i) {
      if (run_piece(slots_[(number + i) % num_threads_], thread)) return true;
    }
    return false;
  }

  /// Offers the pieces of the unit's next phase; 0: it is done.
  void go_on(UnitSlot<T, C>& slot, std::int64_t pieces) {
    if (pieces > 0) return slot.pieces.offer(pieces);
    slot.busy.store(false, std::memory_order_release);
    if (units_to_end_.fetch_sub(1, std::memory_order_acq_rel) == 1) end();
  }

  /// All units are done.
  void end() {
    if (args_.counters) {
      for (int i = 0; i < num_threads_; ++i) {
        const std::int64_t* counters = memory_of(i).thread.counters;
        for (int c = 0; c < num_counters(); ++c) (*args_.counters)(c) += counters[c];
      }
    }
    complete_.store(true, std::memory_order_release);
  }

  const AttentionPlan& plan_;
  SearchPlan search_plan_;
  const AttentionArgs<T, C>& args_;
  CpuWorkspace workspace_;
  int num_threads_;
  UnitSlot<T, C>* slots_;  // [num_threads]
  CallError error_;
  int useful_threads_ = 1;
  std::atomic<std::int64_t> units_to_begin_ = 0;
  std::atomic<std::int64_t> units_to_end_ = 0;
  std::atomic<bool> complete_ = false;
};

#define HIP_ATTN_SAME_SIZE_(T, C) \
  static_assert(sizeof(UnitSlot<T, C>) == sizeof(UnitSlot<float, float>));
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_SAME_SIZE_)
#undef HIP_ATTN_SAME_SIZE_

/// Bytes of a plan's workspace, whatever its types.
inline std::size_t workspace_bytes(const AttentionPlan& plan) noexcept {
  return carve(plan, Call<float, float>::bytes(plan), nullptr).bytes;
}

}  // namespace hip_attn::cpu
