/// Brings what a prefill reads of a store over the link once: blocks are marked by what the search
/// left, copied into memory of the workspace, and read there.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/offload/params.hpp"
#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/cuda/ptx/dependent_launch.cuh"
#include "hip_attn/cuda/rows/query_block.cuh"

namespace hip_attn::cuda {

inline constexpr int kStagingThreads = 256;
/// Of the copy. They take more than half of a multiprocessor's registers, 64 each on an H200.
inline constexpr int kStageThreads = 1024;

/// The row of the store's table that a request has, or its last, which has no pages.
__device__ inline std::int64_t store_row(const KvStoreParams& store, int request) {
  const std::int32_t row = store.rows ? store.rows[request] : request;
  return static_cast<std::uint32_t>(row) < static_cast<std::uint32_t>(store.num_rows)
             ? row
             : store.num_rows;
}

/// Nothing is marked or staged: every block is read at home. A thread for each entry of the table.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    begin_staging_kernel(const __grid_constant__ StagingParams params) {
  const KvStoreParams& store = params.store;
  const std::int64_t entries = params.columns * store.num_kv_heads * params.batch;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < entries;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t column = i % params.columns;
    const std::int64_t unit = i / params.columns;
    const auto kv_head = static_cast<int>(unit % store.num_kv_heads);
    const auto request = static_cast<int>(unit / store.num_kv_heads);
    std::int32_t page =
        store.layout
            .table[(store_row(store, request) * store.num_kv_heads + kv_head) * params.columns +
                   column];
    if (page >= 0 && page < store.near_pages) {
      page = store.far_page(store.layout.owners[page].home, kv_head);
    }
    params.table[i] = page < 0 ? -1 : page - store.near_pages + params.num_pages;
    if (column % 32 == 0) params.marks[unit * params.mark_words + column / 32] = 0;
    if (column == 0 && request == 0) params.wanted[kv_head] = 0;
  }
}

/// Marks the blocks of keys [begin, end): of their words, one in `step` from `first` on.
__device__ inline void mark_keys(std::uint32_t* marks, std::int32_t begin, std::int32_t end,
                                 int first, int step) {
  if (begin >= end) return;
  const std::int32_t first_block = begin >> kKvBlockShift;
  const std::int32_t last_block = (end - 1) >> kKvBlockShift;
  for (std::int32_t w = first_block / 32 + first; w <= last_block / 32; w += step) {
    std::uint32_t bits = ~0u;
    if (w == first_block / 32) bits &= ~0u << (first_block % 32);
    if (w == last_block / 32) bits &= ~0u >> (31 - last_block % 32);
    if ((marks[w] & bits) != bits) atomicOr(marks + w, bits);  // most are already
  }
}

/// Marks what query blocks read: sink, window, and what `chosen` holds of them, chunks of
/// 1 << chunk_shift keys by number. Without `chosen`: every key, or what a window leaves.
template <typename Stored, int kThreads>
__global__ void __launch_bounds__(kThreads)
    mark_blocks_kernel(const __grid_constant__ MarkParams<Stored> params) {
  const PrefillParams<Stored>& prefill = params.prefill;
  const StagingParams& staging = params.staging;
  const int kv_head = params.first_head + static_cast<int>(blockIdx.y);
  for (std::int32_t row = static_cast<std::int32_t>(blockIdx.x); row < prefill.selection_rows;
       row += static_cast<std::int32_t>(gridDim.x)) {
    const QueryBlock block = find_query_block(prefill, row);
    if (block.kind != QueryBlock::Kind::kAttend) continue;
    std::uint32_t* const marks =
        staging.marks +
        (std::int64_t{block.request} * prefill.num_kv_heads + kv_head) * staging.mark_words;
    const std::int32_t end = block.p0 + block.rows;
    const auto mark = [&](std::int32_t from, std::int32_t to) {  // by all threads
      mark_keys(marks, from, min(to, end), static_cast<int>(threadIdx.x), kThreads);
    };
    if (!params.chosen.blocks) {
      mark(0, params.all ? end : prefill.search.sink);
      if (!params.all) mark(max(prefill.search.window_start(block.p0), 0), end);
      continue;
    }
    const auto& chosen = params.chosen;
    const std::int32_t count = chosen.counts[row * chosen.counts_row_stride + kv_head];
    const std::int32_t window = chosen.window_start[row * chosen.window_row_stride + kv_head];
    mark(0, prefill.search.sink);
    mark(max(window, 0), end);
    if (count < 0 || count > chosen.max_blocks) continue;  // given, and refused
    const auto* const blocks =
        chosen.blocks + row * chosen.blocks_row_stride + kv_head * chosen.blocks_head_stride;
    for (auto i = static_cast<std::int32_t>(threadIdx.x); i < count; i += kThreads) {
      const std::int64_t begin = std::int64_t{blocks[i]} << params.chunk_shift;
      if (begin < 0 || begin >= end) continue;
      const std::int64_t chunk_end = begin + (std::int64_t{1} << params.chunk_shift);
      mark_keys(marks, static_cast<std::int32_t>(begin),
                static_cast<std::int32_t>(min(chunk_end, std::int64_t{end})), 0, 1);
    }
  }
}

/// Gives pages to the marked blocks of some KV heads and says so in the table. What does not fit
/// stays at home. A warp for each 32 columns.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    list_blocks_kernel(const __grid_constant__ StageParams params) {
  const StagingParams& staging = params.staging;
  const KvStoreParams& store = staging.store;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t words = std::int64_t{staging.batch} * params.num_heads * staging.mark_words;
  for (std::int64_t at = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32; at < words;
       at += std::int64_t{gridDim.x} * (kThreads / 32)) {
    const std::int64_t of_head = at / staging.mark_words;
    const std::int64_t word = at % staging.mark_words;
    const auto request = static_cast<int>(of_head / params.num_heads);
    const int kv_head = params.first_head + static_cast<int>(of_head % params.num_heads);
    const std::int64_t unit = std::int64_t{request} * store.num_kv_heads + kv_head;
    const std::uint32_t marks = staging.marks[unit * staging.mark_words + word];
    if (marks == 0) continue;
    std::int32_t first = 0;
    if (lane == 0) first = atomicAdd(staging.wanted + params.first_head, __popc(marks));
    first = __shfl_sync(0xffffffffu, first, 0);
    const std::int32_t page = first + __popc(marks & ((1u << lane) - 1u));
    if ((marks >> lane & 1u) == 0 || page >= params.num_pages) continue;
    // Marked columns lie before the end of a request whose length the table holds.
    const std::int64_t column = word * 32 + lane;
    const std::int32_t source =
        store.layout
            .table[(store_row(store, request) * store.num_kv_heads + kv_head) * staging.columns +
                   column];
    staging.sources[params.first_page + page] = source;
    if (source >= 0) staging.table[unit * staging.columns + column] = params.first_page + page;
  }
}

/// Copies a part of the pages that some KV heads were given, 4 KB to a warp at a time. The next
/// kernel may be one that reads none of these heads, and starts at once then.
template <int kThreads>
__global__ void __launch_bounds__(kThreads, 1)
    stage_blocks_kernel(const __grid_constant__ StageParams params) {
  constexpr int kVectors = 8;  // of a thread, on their way at once
  launch_dependents();
  const StagingParams& staging = params.staging;
  const KvStoreParams& store = staging.store;
  const std::int32_t pages = min(staging.wanted[params.first_head], params.num_pages);
  const auto boundary = [&](std::int32_t part) {
    return static_cast<std::int32_t>(std::int64_t{pages} * part / kStagedParts);
  };
  const std::int32_t begin = boundary(params.part.first);
  const std::int32_t end = boundary(params.part.first + params.part.count);
  const std::int32_t* const sources = staging.sources + params.first_page + begin;
  const int shift = staging.vectors_shift;
  uint4* const to =
      reinterpret_cast<uint4*>(staging.blocks) + (std::int64_t{params.first_page + begin} << shift);
  const auto* const near = reinterpret_cast<const uint4*>(store.layout.blocks);
  const auto* const home = reinterpret_cast<const uint4*>(store.home);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  constexpr std::int64_t kWarpVectors = 32 * kVectors;
  const std::int64_t vectors = std::int64_t{end - begin} << shift;
  for (std::int64_t at = (std::int64_t{blockIdx.x} * (kThreads / 32) + warp) * kWarpVectors;
       at < vectors; at += std::int64_t{gridDim.x} * (kThreads / 32) * kWarpVectors) {
    const std::int64_t page = (at >> shift) + lane;
    const std::int32_t source_of_lane = page < end - begin ? sources[page] : -1;
    uint4 values[kVectors];
    std::uint32_t there = 0;
#pragma unroll
    for (int n = 0; n < kVectors; ++n) {  // of one page for all lanes
      const std::int64_t vector = at + n * 32;
      const int of = static_cast<int>((vector >> shift) - (at >> shift));
      const std::int32_t source = __shfl_sync(0xffffffffu, source_of_lane, of);
      const std::int64_t offset = vector & ((std::int64_t{1} << shift) - 1);
      const uint4* const from =
          source < store.near_pages
              ? near + (std::int64_t{source} << shift) + offset
              : home + (std::int64_t{source - store.near_pages} << shift) + offset;
      there |= (source >= 0 ? 1u : 0u) << n;
      values[n] = __ldcg((source >= 0 ? from : to) + lane);  // without a branch: all at once
    }
#pragma unroll
    for (int n = 0; n < kVectors; ++n) {
      if ((there >> n & 1u) != 0) to[at + n * 32 + lane] = values[n];
    }
  }
}

}  // namespace hip_attn::cuda
