/// Selections of trained indexers and other libraries (cuDNN's contract): for each query row the
/// numbers of the blocks that it attends to, in any order, padded with -1.
#pragma once

#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/selection.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

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
/// plan of prefill has block_q 1, and requests of a decode call one row. Runs on the plan's device,
/// where all arrays are. Cost: a sort of each row's indices.
/// Errors: kUnsupported, kNullPointer, kInvalidStride, kInvalidShape, kOverlap, kCudaError, and on
/// the CPU kInvalidLength, kTooManyDecodeRows, kQueryLongerThanSequence, kInvalidSelection (a block
/// behind the row's own).
///
/// On CUDA the last two of these can be no Status: such a row and KV head, or such a request of
/// decode, gets a count of -1, a selection that does not hold, which makes NaN of its rows in the
/// call that it is given to. Rows of requests whose lengths do not hold get no selection.
HIP_ATTN_API Status make_index_selection(const AttentionPlan& plan, const IndexSelectionArgs& args,
                                         Stream stream = nullptr);

}  // namespace hip_attn
