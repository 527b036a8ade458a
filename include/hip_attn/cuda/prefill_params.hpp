/// What the prefill kernels are told.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/offload/params.hpp"
#include "hip_attn/landmarks.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// What a stage scores at most, for one unit.
struct ScanSize {
  std::int64_t rows;  ///< of pooled queries
  std::int64_t chunks;
};

template <typename Stored>
struct PrefillParams {
  AttentionTensors<Stored> tensors;
  // Shape
  std::int32_t num_kv_heads;
  std::int32_t heads_at_once;  ///< KV heads whose keys and values fit L2 together, at least 1
  std::int32_t group;
  std::int32_t max_seq_len;
  LogitScale logits;
  std::int32_t block_q;
  std::int32_t dense_until;  ///< query blocks with p0 below are not searched: every key
  SearchPlan search;
  LandmarkTensor<Stored> landmarks[kMaxLandmarkLevels];  ///< [stage], of landmark stages
  // Selection and counters
  std::int32_t selection_rows;  ///< selection_row(total_q, B, 0, block_q) of this call
  SelectionParams<const std::int32_t> selection_in;  ///< absent: search
  /// Chunks, by number, that the stages before first_stage of a search have left; it begins there.
  SelectionParams<const std::int32_t> candidates;
  std::int32_t first_stage;
  /// Written by the search, read by attention: the caller's, or the workspace's. A unit whose given
  /// selection does not hold has count -1.
  SelectionParams<std::int32_t> selection;
  unsigned long long* counters;  ///< [num_stages + 2], null: absent
  // Workspace
  std::int32_t list_length;  ///< of a list of chunks between stages
  std::int32_t max_rows;     ///< query rows of a unit at most, pooled or not
  /// Of each thread block of a search that works in the workspace; null: it does not.
  std::byte* search_memory;
  std::int64_t search_bytes;  ///< of one thread block
};

/// What query blocks read of a store, to be marked.
template <typename Stored>
struct MarkParams {
  PrefillParams<Stored> prefill;
  StagingParams staging;
  SelectionParams<const std::int32_t> chosen;  ///< absent: nothing but sink and window, or `all`
  std::int32_t chunk_shift;                    ///< log2 of the keys of one of them
  std::int32_t first_head;                     ///< of the KV heads that are marked
  bool all;                                    ///< every key before the query block's end
};

}  // namespace hip_attn::cuda
