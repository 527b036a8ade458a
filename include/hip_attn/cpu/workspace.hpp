/// How the CPU backend lays out its workspace: one function both counts and carves.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/carver.hpp"
#include "hip_attn/cpu/attend.hpp"
#include "hip_attn/cpu/search.hpp"

namespace hip_attn::cpu {

/// A query block of one request: the rows that share a selection, for every KV head.
struct QueryBlock {
  std::int64_t request;
  std::int64_t first_row;  ///< row of q
  std::int64_t rows;
  std::int64_t p0;      ///< position of the first row
  std::int64_t anchor;  ///< position of the first row counted from where pooling groups start
  std::int64_t selection_row;  ///< row of a SelectionView
};

/// What one unit that is under way works in.
struct UnitMemory {
  SearchMemory search;
  float* queries;    ///< pooled or not, in the layout of the unit's rows
  QueryParts parts;  ///< of landmark stages
  AttendState state;
};

/// What one thread works in.
struct ThreadMemory {
  TileMemory tile;
  float* products;         ///< [rows of a unit, kScanBatchKeys] of stages that need row logits
  AttendState part;        ///< of a unit that others work on too; decode only
  std::int64_t* counters;  ///< [num_stages + 2]
};

struct CpuWorkspace {
  std::byte* call;  ///< bytes that the caller of carve() asked for
  QueryBlock* query_blocks;
  std::byte* zeros;    ///< D elements
  std::byte* threads;  ///< of thread t at threads + t * thread_bytes: a UnitMemory, a ThreadMemory
  std::size_t thread_bytes;
  std::size_t bytes;  ///< of the whole
};

/// Rows of one unit at most: a query block's rows times the query heads of a KV head.
inline std::int64_t max_unit_rows(const AttentionPlan& plan) noexcept {
  const std::int64_t block_rows =
      plan.op == Operator::kDecode ? kMaxDecodeRows : plan.config.block_q;
  return std::min(block_rows, plan.shape.total_q) *
         (plan.shape.num_q_heads / plan.shape.num_kv_heads);
}

inline AttendState carve_state(const RowLayout& layout, Carver& carver) noexcept {
  return {carver.take<float>(layout.size()), carver.take<float>(layout.padded_rows()),
          carver.take<float>(layout.padded_rows())};
}

/// Rows of any stage that needs row logits at most, pooled.
inline std::int64_t max_logit_rows(const AttentionPlan& plan, const SearchPlan& search) noexcept {
  const std::int64_t group = plan.shape.num_q_heads / plan.shape.num_kv_heads;
  const std::int64_t positions = max_unit_rows(plan) / group;
  std::int64_t most = 0;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    if (!stage.needs_row_logits()) continue;
    // Groups of positions are cut by the ends of a query block, but begin at its anchor.
    const std::int64_t groups =
        ceil_div(plan.op == Operator::kDecode ? positions : std::int64_t{plan.config.block_q},
                 stage.query_stride);
    most = std::max(most, std::min(positions, groups) * group);
  }
  return most;
}

struct MemoryOfThread {
  UnitMemory unit;
  ThreadMemory thread;
};

inline MemoryOfThread carve_thread(const AttentionPlan& plan, Carver& carver) noexcept {
  const std::int64_t d = plan.shape.head_dim;
  const RowLayout layout{max_unit_rows(plan), d, plan.op};
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  const std::int64_t chunks = search.max_chunks;
  const std::int64_t logit_rows = max_logit_rows(plan, search);
  const std::int64_t part_floats = plan.config.uses_landmarks() ? layout.size() : 0;
  MemoryOfThread memory{};
  memory.unit.search.starts = carver.take<std::int32_t>(chunks);
  memory.unit.search.other_starts = carver.take<std::int32_t>(chunks);
  memory.unit.search.scores = carver.take<float>(chunks);
  memory.unit.search.scratch = carver.take<float>(chunks);
  memory.unit.search.row_logits = carver.take<float>(logit_rows * chunks);
  memory.unit.queries = carver.take<float>(layout.size());
  memory.unit.parts = {carver.take<float>(part_floats), carver.take<float>(part_floats)};
  memory.unit.state = carve_state(layout, carver);
  const std::int64_t tile_floats = layout.is_few() ? 0 : kTileKeys * d;
  memory.thread.tile = {carver.take<float>(tile_floats), carver.take<float>(tile_floats),
                        carver.take<float>(kTileKeys * kLanes),
                        carver.take<float>(kTileKeys * kLanes), carver.take<float>(kLanes)};
  memory.thread.products = carver.take<float>(logit_rows * kScanBatchKeys);
  if (plan.op == Operator::kDecode) memory.thread.part = carve_state(layout, carver);
  memory.thread.counters = carver.take<std::int64_t>(plan.config.num_stages() + 2);
  return memory;
}

/// Lays out `memory`, or nothing when it is null: `bytes` is exact either way. call_bytes: of what
/// the call keeps for itself.
inline CpuWorkspace carve(const AttentionPlan& plan, std::int64_t call_bytes,
                          std::byte* memory) noexcept {
  Carver carver(memory);
  CpuWorkspace workspace{};
  workspace.call = carver.take<std::byte>(call_bytes);
  workspace.query_blocks = carver.take<QueryBlock>(plan.selection_rows);
  workspace.zeros =
      carver.take<std::byte>(plan.shape.head_dim * static_cast<std::int64_t>(sizeof(float)));
  Carver counting(nullptr);
  carve_thread(plan, counting);
  workspace.thread_bytes = counting.used();
  workspace.threads =
      carver.take<std::byte>(static_cast<std::int64_t>(workspace.thread_bytes) * plan.num_threads);
  workspace.bytes = carver.bytes();
  return workspace;
}

}  // namespace hip_attn::cpu
