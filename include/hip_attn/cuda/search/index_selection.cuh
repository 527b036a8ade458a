/// Selections of given block numbers, on the GPU: each row's list is sorted and freed of what comes
/// twice.
#pragma once

#include <cstdint>

#include "hip_attn/core/indexed_row.hpp"
#include "hip_attn/cuda/attention_params.hpp"

namespace hip_attn::cuda {

/// IndexSelectionArgs with plain pointers.
struct IndexSelectionParams {
  const std::int32_t* indices;  ///< [num_rows, num_kv_heads, top_k]
  std::int64_t indices_row_stride;
  std::int64_t indices_head_stride;  ///< 0: one list for all KV heads
  std::uint32_t top_k;
  std::int64_t num_rows;
  std::int64_t num_kv_heads;
  const std::int32_t* seq_lens;      ///< [batch]
  const std::int32_t* cu_seqlens_q;  ///< [batch + 1]
  std::int32_t batch;
  SelectionParams<std::int32_t> selection;  ///< written
  std::int64_t sink;
  int block_shift;  ///< log2(block_k)
  bool is_decode;
};

/// Threads of a block, which makes the selection of one unit (row, KV head), at most; a power of
/// two.
inline constexpr int kIndexSelectionThreads = 256;

/// Sorts behind every block number.
inline constexpr std::int32_t kNoIndex = INT32_MAX;

/// A row of the indices and where its selection belongs.
struct RowOfIndices {
  /// kAbsent: of no request, of one without keys, or of one whose lengths do not hold, as attention
  /// sees for itself. kRefused: its selection is made one that does not hold.
  enum class Kind { kAbsent, kListed, kRefused };

  Kind kind = Kind::kAbsent;
  std::int64_t position = 0;
  std::int64_t selection_row = 0;
};

/// Called by all threads of a block, which look for the request at once: a search by halves would
/// be as many dependent loads as the batch has bits.
inline __device__ RowOfIndices find_row(const IndexSelectionParams& params, std::int64_t row) {
  int requests = 0;  // that begin here or before
  const auto threads = static_cast<std::int32_t>(blockDim.x);
  for (std::int32_t first = 0; first < params.batch; first += threads) {
    const std::int32_t b = first + static_cast<std::int32_t>(threadIdx.x);
    requests += __syncthreads_count(b < params.batch && params.cu_seqlens_q[b] <= row);
  }
  if (requests == 0) return {};
  const std::int32_t request = requests - 1;
  const std::int64_t begin = params.cu_seqlens_q[request];
  const std::int64_t end = params.cu_seqlens_q[request + 1];
  const std::int64_t seq_len = params.seq_lens[request];
  if (begin < 0 || row >= end || end > params.num_rows || end - begin > seq_len) return {};
  if (params.is_decode) {
    // One selection serves all rows of a request there.
    const bool has_one = end - begin == 1;
    return {has_one ? RowOfIndices::Kind::kListed : RowOfIndices::Kind::kRefused,
            seq_len - (end - row), request};
  }
  return {RowOfIndices::Kind::kListed, seq_len - (end - row), row + std::int64_t{2} * request};
}

/// Sorts ascending, in shared or global memory. Called by all threads of a block, behind a barrier;
/// ends with one. A bitonic sort whose comparisons all have the smaller number in front, so that
/// places behind the last one need not exist.
inline __device__ void sort_ascending(std::int32_t* values, std::uint32_t count) {
  // Pair `pair` of those in groups of 1 << (log + 1) places: its first place.
  const auto front = [](std::uint32_t pair, int log) {
    return (pair >> log << (log + 1)) | (pair & ((1u << log) - 1));
  };
  const auto exchange = [&](std::uint32_t low, std::uint32_t high) {
    if (high >= count) return;
    const std::int32_t a = values[low];
    const std::int32_t b = values[high];
    if (b < a) {
      values[low] = b;
      values[high] = a;
    }
  };
  for (int level = 0; 1u << level < count; ++level) {
    // Runs of 1 << level are sorted. Two of them, the second one backwards, are a bitonic sequence.
    for (std::uint32_t pair = threadIdx.x;; pair += blockDim.x) {
      const std::uint32_t low = front(pair, level);
      if (low >= count) break;
      exchange(low, low ^ ((2u << level) - 1));
    }
    __syncthreads();
    for (int log = level - 1; log >= 0; --log) {
      for (std::uint32_t pair = threadIdx.x;; pair += blockDim.x) {
        const std::uint32_t low = front(pair, log);
        if (low >= count) break;
        exchange(low, low + (1u << log));
      }
      __syncthreads();
    }
  }
}

/// Copies a sorted list to `to`, which may be the list itself, each number once and kNoIndex not.
/// Returns how many there are. Called by all threads of a block, behind a barrier; ends with one.
inline __device__ std::uint32_t copy_distinct(const std::int32_t* sorted, std::uint32_t count,
                                              std::int32_t* to) {
  __shared__ std::uint32_t kept_by_warp[kIndexSelectionThreads / 32];
  const std::uint32_t warp = threadIdx.x / 32;
  const std::uint32_t earlier_lanes = (1u << threadIdx.x % 32) - 1;
  std::uint32_t kept = 0;
  for (std::uint32_t first = 0; first < count; first += blockDim.x) {
    const std::uint32_t i = first + threadIdx.x;
    const std::int32_t value = i < count ? sorted[i] : kNoIndex;
    const bool keeps = value != kNoIndex && (i == 0 || sorted[i - 1] != value);
    const std::uint32_t lanes = __ballot_sync(0xffffffffu, keeps);
    if (threadIdx.x % 32 == 0) kept_by_warp[warp] = static_cast<std::uint32_t>(__popc(lanes));
    // In place: what this round writes lies where it, or an earlier one, has read.
    __syncthreads();
    std::uint32_t place = kept + static_cast<std::uint32_t>(__popc(lanes & earlier_lanes));
    for (std::uint32_t w = 0; w < blockDim.x / 32; ++w) {
      if (w < warp) place += kept_by_warp[w];
      kept += kept_by_warp[w];
    }
    if (keeps) to[place] = value;
    __syncthreads();
  }
  return kept;
}

/// kCapacity: indices that shared memory holds. 0: lists are sorted where they are written.
template <std::uint32_t kCapacity>
__global__ void __launch_bounds__(kIndexSelectionThreads)
    index_selection_kernel(const __grid_constant__ IndexSelectionParams params) {
  __shared__ std::int32_t shared_list[kCapacity > 0 ? kCapacity : 1];
  const SelectionParams<std::int32_t>& selection = params.selection;
  const std::int64_t num_units = params.num_rows * params.num_kv_heads;
  for (std::int64_t unit = blockIdx.x; unit < num_units; unit += gridDim.x) {
    const std::int64_t row = unit / params.num_kv_heads;
    const std::int64_t head = unit - row * params.num_kv_heads;
    const RowOfIndices found = find_row(params, row);
    if (found.kind == RowOfIndices::Kind::kAbsent) continue;

    const IndexedRow rule{found.position, params.sink, params.block_shift};
    const std::int32_t* const indices =
        params.indices + row * params.indices_row_stride + head * params.indices_head_stride;
    std::int32_t* const blocks = selection.blocks +
                                 found.selection_row * selection.blocks_row_stride +
                                 head * selection.blocks_head_stride;
    std::int32_t* const list = kCapacity > 0 ? shared_list : blocks;
    bool is_ahead = found.kind == RowOfIndices::Kind::kRefused;
    bool has_own_block = false;
    for (std::uint32_t i = threadIdx.x; i < params.top_k; i += blockDim.x) {
      const std::int32_t block = indices[i];
      is_ahead |= block > rule.own_block();
      has_own_block |= block == rule.own_block();
      list[i] = block >= 0 && rule.lists(block) ? block : kNoIndex;
    }
    // Both are barriers, too.
    const bool refused = __syncthreads_or(is_ahead) != 0;
    const bool has_window = __syncthreads_or(has_own_block) != 0;
    std::uint32_t count = 0;
    if (!refused) {
      sort_ascending(list, params.top_k);
      count = copy_distinct(list, params.top_k, blocks);
    }
    if (threadIdx.x == 0) {
      selection.counts[found.selection_row * selection.counts_row_stride + head] =
          refused ? -1 : static_cast<std::int32_t>(count);
      selection.window_start[found.selection_row * selection.window_row_stride + head] =
          static_cast<std::int32_t>(rule.window_start(has_window));
    }
  }
}

}  // namespace hip_attn::cuda
