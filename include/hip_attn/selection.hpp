/// Selections: which key blocks a query block attends to, as an output, an input and a cache.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "hip_attn/types.hpp"

namespace hip_attn {

/// The selected blocks of every unit (query block, KV head) of a call. I is std::int32_t, or const.
///
/// Rows: decode, row b is request b. Prefill, query block n of request b (n = 0 for the block of
/// its first row) is row selection_row(cu_seqlens_q[b], b, n, block_q); rows that no query block
/// maps to are left as they are. A call needs AttentionPlan::selection_rows rows.
template <typename I>
struct SelectionView {
  TensorView<I, 3>
      blocks;  ///< [rows, Hk, >= max_selected_blocks] block numbers, token / block_k, ascending
  TensorView<I, 2> counts;  ///< [rows, Hk] blocks that are selected
  TensorView<I, 2>
      window_start;  ///< [rows, Hk] W0: keys from here on are attended without selection

  template <std::same_as<const I> ConstI>
  requires(!std::is_const_v<I>) constexpr operator SelectionView<ConstI>() const {
    return {blocks, counts, window_start};
  }
};

using BlockSelection = SelectionView<std::int32_t>;
using ConstBlockSelection = SelectionView<const std::int32_t>;

/// The selection row of query block n (0: the block of the request's first row) of request b.
/// Found without a prefix sum: a request of q rows spans at most q / block_q + 2 query blocks.
constexpr std::int64_t selection_row(std::int64_t cu_seqlens_q_b, std::int64_t b, std::int64_t n,
                                     std::int64_t block_q) noexcept {
  return cu_seqlens_q_b / block_q + 2 * b + n;
}

/// The SelectionCache::refresh_from of a step that reuses its selection and searches for the next
/// one: besides, the stages from `stage` on run, but the last, which the next step runs with its
/// own queries (docs/guide/algorithm.md, "A search ahead"). From the last stage on, there is
/// nothing to search. stage >= 0.
constexpr std::int32_t search_ahead_from(std::int32_t stage) noexcept { return -1 - stage; }

/// Decode's memory between steps: per slot and KV head the survivors of every stage and their W0.
/// An entry of zeroed memory is empty and refreshes itself whole, as does one that lies ahead of
/// the sequence (after a rollback). The caller owns the memory and zeroes it once.
struct SelectionCache {
  /// num_slots * AttentionPlan::selection_cache_slot_bytes bytes, 16-byte aligned.
  void* data = nullptr;
  std::int64_t num_slots = 0;
  /// int32 [B]: the first stage that request b runs again. 0: all of them. num_stages or more:
  /// none, the selection is reused with its old W0, so the window has grown by the steps since.
  /// Below 0: search_ahead_from(). Behind such a step at least the last stage runs.
  TensorView<const std::int32_t, 1> refresh_from;
  /// int32 [B]: the slot of request b, each used once; of a request without keys or rows, which
  /// needs none, anything. Absent: slot b. A new request in an old slot starts with refresh_from 0.
  std::optional<TensorView<const std::int32_t, 1>> slots;
};

}  // namespace hip_attn
