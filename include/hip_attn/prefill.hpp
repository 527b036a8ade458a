/// Prefill: many query rows per request, in query blocks anchored at absolute positions.
#pragma once

#include "hip_attn/attention.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/threads.hpp"

namespace hip_attn {

/// Checks config and shape and writes the plan. Host arithmetic only. On CUDA:
/// caches of float16 and bfloat16, up to 16384 rows of block_q * num_q_heads / num_kv_heads.
/// Errors: kInvalidConfig, kInvalidShape, kUnsupported (the message lists what was built).
template <Element T, StoredFor<T> C = T>
HIP_ATTN_API Status plan_prefill(const HipConfig& config, const AttentionShape& shape,
                                 AttentionPlan& plan);

/// out = softmax(logits) V over what each row attends (docs/guide/algorithm.md, "What a row attends
/// to"). A prompt prefilled in pieces cut at multiples of block_q gives bit-identical selections to
/// the prompt whole. A row with nothing to attend gives out = 0, lse = -inf.
///
/// Cost per query block and KV head, T keys, for block_q * Hq / Hk rows: by the default
/// configuration min(T, 2^20) / 16 + 16384 keys scored; by presets::landmark(T) min(T / 64, 4096)
/// landmarks, 1024 for every further landmark stage, and 8192 keys; by both 3328 keys
/// and values attended (more by presets::landmark above 2^20). Workspace: linear in total_q and in
/// batch.
/// On the CPU, lengths, pages and selections are checked as they are read; an error leaves `out`
/// partly written. On CUDA two kernels, which can be captured; values in device
/// memory that do not hold make rows NaN (docs/guide/interface.md, "I run under CUDA graphs").
///
/// Errors: kNullPointer, kMisalignedPointer, kInvalidStride, kInvalidShape, kWorkspaceTooSmall,
/// kExceedsPlan, kInvalidLength, kSeqLenBeyondBlockTable, kQueryLongerThanSequence, kInvalidPage,
/// kInvalidSelection, kInvalidScalar, kOverlap, kUnsupported, kCudaError.
template <Element T, StoredFor<T> C>
HIP_ATTN_API Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                                Workspace workspace, Stream stream = nullptr);

/// A part of the same call on the CPU: see ThreadTeam. Also kUnsupported for another device, and
/// kInvalidShape for a team of more parts than the plan has threads, or a part that it does not
/// have.
template <Element T, StoredFor<T> C>
HIP_ATTN_API Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                                Workspace workspace, ThreadTeam& team, int part);

#define HIP_ATTN_EXTERN_(T, C)                                                                    \
  extern template HIP_ATTN_API Status plan_prefill<T, C>(const HipConfig&, const AttentionShape&, \
                                                         AttentionPlan&);                         \
  extern template HIP_ATTN_API Status run_prefill(const AttentionPlan&,                           \
                                                  const AttentionArgs<T, C>&, Workspace, Stream); \
  extern template HIP_ATTN_API Status run_prefill(                                                \
      const AttentionPlan&, const AttentionArgs<T, C>&, Workspace, ThreadTeam&, int);
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_EXTERN_)
#undef HIP_ATTN_EXTERN_

}  // namespace hip_attn
