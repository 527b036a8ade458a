/// What plan, launch and kernel of decode all compute from the shape of a unit.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/cuda/decode/params.hpp"
#include "hip_attn/cuda/decode/register_select.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"
#include "hip_attn/cuda/search/select.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// threadIdx.x, of which the compiler knows that it is not negative: dividing it is a shift.
__device__ inline int decode_thread() {
  const unsigned thread = threadIdx.x;
  __builtin_assume(thread < kDecodeThreads);
  return static_cast<int>(thread);
}

/// Rows padded to whole tensor-core tiles.
__host__ __device__ constexpr int padded_rows(int rows) {
  return (rows + kRowsPerTile - 1) / kRowsPerTile * kRowsPerTile;
}

/// Elements from one query row in shared memory to the next, an odd multiple of 32: the two rows
/// that eight lanes read together come from different banks.
__host__ __device__ constexpr int query_pitch(int head_dim) { return head_dim / 64 * 64 + 32; }

/// Where tiles lie before and after a select: its storage, rounded up, and behind it the weights of
/// rows whose softmax sums it selects by.
inline constexpr int kSelectBytes =
    (static_cast<int>(
         std::max(sizeof(RegisterSelectStorage), sizeof(SelectStorage<kDecodeThreads>))) +
     15) /
    16 * 16;
__host__ __device__ constexpr int row_weight_bytes(int rows) {
  return (rows * static_cast<int>(sizeof(RowWeight)) + 15) / 16 * 16;
}

/// Rows that are attended at once.
__host__ __device__ constexpr int pass_rows(int max_rows, int row_tile_shift) {
  const int rows = kRowsPerTile << row_tile_shift;
  return rows < max_rows ? rows : max_rows;
}

/// Where slices of `values` (row, dim) pairs, a power of two of them for each of `team_size`
/// blocks, are cut: log2 of a slice.
inline int slice_shift(int values, int team_size) {
  int shift = 3;
  while ((std::int64_t{team_size} << shift) < values) ++shift;
  return shift;
}

/// Floats that a block is sent: its slice of every block's output, and {max, sum} of every row.
/// Enough for every team size.
inline int exchange_floats(int rows, int head_dim) {
  return 2 * rows * head_dim + kMaxTeamSize * 8 + kMaxTeamSize * rows * 2;
}

inline DecodeLayout decode_layout(int head_dim, int max_rows, int row_tile_shift, int slots,
                                  int list_length) {
  DecodeLayout layout{};
  layout.max_rows = max_rows;
  layout.row_tile_shift = row_tile_shift;
  layout.slots = slots;
  layout.list_length = list_length;
  std::int32_t at = 0;
  const auto take = [&](int bytes) {
    const std::int32_t begin = at;
    at += (bytes + 15) / 16 * 16;
    return begin;
  };
  // Select runs where tiles lie before and after.
  take(std::max(slots * slot_bytes(head_dim), kSelectBytes + row_weight_bytes(max_rows)));
  layout.queries = take(2 * padded_rows(max_rows) * query_pitch(head_dim));
  layout.inbox = take(4 * exchange_floats(pass_rows(max_rows, row_tile_shift), head_dim));
  layout.states = take(2 * 4 * kDecodeWarps * kRowsPerTile);
  layout.lists = take(2 * 4 * list_length);
  layout.barrier = take(2 * 8);
  layout.upstream = layout.barrier + 8;
  layout.unread = take(4);
  layout.bytes = at;
  return layout;
}

}  // namespace hip_attn::cuda
