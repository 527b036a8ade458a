/// Selections of trained indexers and other libraries (cuDNN's contract): for each query row the
/// numbers of the blocks that it attends to, in any order, padded with -1.
#pragma once

#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/selection.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn {

struct IndexSelectionArgs {
  /// [total_q, Hk or 1, top_k] token / block_k; negative: none. A size of 1 serves all KV heads.
  TensorView<const std::int32_t, 3> indices;
  TensorView<const std::int32_t, 1> seq_lens;      ///< [B], as in AttentionArgs
  TensorView<const std::int32_t, 1> cu_seqlens_q;  ///< [B + 1], as in AttentionArgs
  BlockSelection selection;                        ///< written; top_k blocks wide at least
};

/// The same as AttentionArgs::selection: a row attends to the keys of its blocks up to its own
/// position, and to the sink of the configuration, which can be 0, and to nothing else. An index
/// that comes twice counts once. block_k of the plan, the last stage's chunk_size, is the
/// granularity: 1, 4, 64, 128 or any other power of two. Rows have selections of their own, so a
/// plan of prefill has block_q 1, and requests of a decode call one row. On the CPU; for another
/// device kUnsupported. Cost: a sort of each row's indices.
/// Errors: kUnsupported, kNullPointer, kInvalidStride, kInvalidShape, kInvalidLength,
/// kTooManyDecodeRows, kQueryLongerThanSequence, kInvalidSelection (a block behind the row's own).
HIP_ATTN_API Status make_index_selection(const AttentionPlan& plan, const IndexSelectionArgs& args);

}  // namespace hip_attn
