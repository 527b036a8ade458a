/// What the attention kernels of prefill ask of a unit (selection row, KV head).
#pragma once

#include <cstdint>

#include "hip_attn/core/attended_keys.hpp"
#include "hip_attn/cuda/rows/query_block.cuh"

namespace hip_attn::cuda {

/// The keys of a unit, those of its last row included. With num_blocks -1 the given selection does
/// not hold, and the unit's rows become NaN. kRowWindows: rows may have windows of their own.
template <bool kRowWindows, typename Stored>
__device__ AttendedKeys unit_keys(const PrefillParams<Stored>& params, const QueryBlock& block,
                                  std::int32_t selection_row, int kv_head) {
  const std::int32_t end = block.p0 + block.rows;
  const int block_shift = params.search.block_shift;
  AttendedKeys keys{
      .sink_end = min(params.search.sink, end),
      .blocks = nullptr,
      .num_blocks = 0,
      .start_shift = block_shift,
      .block_shift = block_shift,
      .window_start = kRowWindows ? params.search.window_start(block.p0) : params.search.sink,
      .end = end};
  const auto& selection = params.selection;
  if (!selection.blocks) return keys;  // every key, or the window alone
  keys.blocks = selection.blocks + selection_row * selection.blocks_row_stride +
                kv_head * selection.blocks_head_stride;
  keys.num_blocks = selection.counts[selection_row * selection.counts_row_stride + kv_head];
  keys.window_start = selection.window_start[selection_row * selection.window_row_stride + kv_head];
  if constexpr (kRowWindows) {  // no row sees what lies before
    keys.window_start = max(keys.window_start, block.p0 + 1 - params.search.row_window);
  }
  return keys;
}

/// Adds what a unit attends to. Called by one whole warp.
template <bool kRowWindows, typename Stored>
__device__ void count_attended(const PrefillParams<Stored>& params, const QueryBlock& block,
                               const AttendedKeys& keys) {
  if (!params.counters) return;
  unsigned long long triples = 0;
#pragma unroll 1
  for (int row = static_cast<int>(threadIdx.x) % 32; row < block.rows; row += 32) {
    triples +=
        keys.until(block.p0 + row, kRowWindows ? params.search.row_window : INT32_MAX).count();
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    triples += __shfl_xor_sync(0xffffffffu, triples, lanes);
  }
  if (threadIdx.x % 32 != 0) return;
  atomicAdd(params.counters + params.search.num_stages,
            static_cast<unsigned long long>(keys.count()));
  atomicAdd(params.counters + params.search.num_stages + 1, triples);
}

}  // namespace hip_attn::cuda
