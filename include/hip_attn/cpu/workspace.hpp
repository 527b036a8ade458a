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

/// What one thread works in.
struct ThreadMemory {
  SearchMemory search;
  AttendMemory attend;
  float* panels;           ///< query panels, [R / kLanes][D][kLanes]
  float* best;             ///< [kTileKeys][kLanes]
  std::byte* zeros;        ///< D elements
  std::int64_t* counters;  ///< [num_stages + 2]
};

struct CpuWorkspace {
  QueryBlock* query_blocks;
  std::byte* threads;  ///< ThreadMemory of thread t at threads + t * thread_bytes
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

inline ThreadMemory carve_thread(const AttentionPlan& plan, Carver& carver) noexcept {
  const std::int64_t d = plan.shape.head_dim;
  const std::int64_t panels = num_panels(max_unit_rows(plan));
  const std::int64_t chunks =
      max_chunks(plan.config, max_candidates(plan.config, plan.shape.max_seq_len));
  ThreadMemory memory{};
  memory.search = {carver.take<std::int32_t>(chunks), carver.take<std::int32_t>(chunks),
                   carver.take<float>(chunks), carver.take<float>(chunks)};
  memory.attend = {carver.take<float>(kTileKeys * d),
                   carver.take<float>(kTileKeys * d),
                   carver.take<float>(kTileKeys * kLanes),
                   carver.take<float>(panels * kLanes * d),
                   carver.take<float>(panels * kLanes),
                   carver.take<float>(panels * kLanes),
                   carver.take<float>(kLanes)};
  memory.panels = carver.take<float>(panels * kLanes * d);
  memory.best = carver.take<float>(kTileKeys * kLanes);
  memory.zeros = carver.take<std::byte>(d * static_cast<std::int64_t>(sizeof(float)));
  memory.counters = carver.take<std::int64_t>(plan.config.num_stages() + 2);
  return memory;
}

/// Lays out `memory`, or nothing when it is null: `bytes` is exact either way.
inline CpuWorkspace carve(const AttentionPlan& plan, std::byte* memory) noexcept {
  Carver carver(memory);
  CpuWorkspace workspace{};
  workspace.query_blocks = carver.take<QueryBlock>(plan.selection_rows);
  Carver counting(nullptr);
  carve_thread(plan, counting);
  workspace.thread_bytes = counting.used();
  workspace.threads =
      carver.take<std::byte>(static_cast<std::int64_t>(workspace.thread_bytes) * plan.num_threads);
  workspace.bytes = carver.bytes();
  return workspace;
}

}  // namespace hip_attn::cpu
