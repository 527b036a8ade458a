/// Decode: 1 to kMaxDecodeRows query rows per request, which share one selection.
#pragma once

#include "hip_attn/attention.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/threads.hpp"

namespace hip_attn {

/// Checks config and shape and writes the plan. Host arithmetic, and for a CUDA device questions to
/// its driver; reads no device memory.
/// Errors: kInvalidConfig, kInvalidShape, kUnsupported (the message lists what was built).
template <Element T, StoredFor<T> C = T>
HIP_ATTN_API Status plan_decode(const HipConfig& config, const AttentionShape& shape,
                                AttentionPlan& plan);

/// As run_prefill, with all rows of a request as one query block. With args.cache, stages before
/// refresh_from are taken from the cache (docs/guide/algorithm.md, "Refresh").
///
/// Cost per request and KV head, 1M keys, when every stage runs: by the default configuration 81920
/// keys scored, by presets::landmark 5120 landmarks and 8192 keys. At every step 3328 keys and
/// values attended, plus one key and value per step since W0 was set. On CUDA (caches of float16
/// and bfloat16): one kernel, which can be captured. The query rows of a request and KV head have
/// to fit shared memory, or the plan is kUnsupported: with head_dim 128 and requests of 8 rows,
/// those of 72 query heads per KV head fit that of an H100. Values in device memory that do not
/// hold make the rows of their request NaN (docs/guide/interface.md, "I run under CUDA graphs"). A
/// step that reuses its selection is fastest with one query row to a request, no softcap, and no
/// selection_out. On sm_90 the kernel may start before its upstream kernel has ended (programmatic
/// dependent launch). Until then it reads lengths, cache, block table and pages for hints alone:
/// what it computes follows from what they hold afterwards.
///
/// Errors: as run_prefill, and kTooManyDecodeRows, kInvalidSlot.
template <Element T, StoredFor<T> C>
HIP_ATTN_API Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                               Workspace workspace, Stream stream = nullptr);

/// A part of the same call on the CPU: see ThreadTeam. Also kUnsupported for another device, and
/// kInvalidShape for a team of more parts than the plan has threads, or a part that it does not
/// have.
template <Element T, StoredFor<T> C>
HIP_ATTN_API Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                               Workspace workspace, ThreadTeam& team, int part);

#define HIP_ATTN_EXTERN_(T, C)                                                                     \
  extern template HIP_ATTN_API Status plan_decode<T, C>(const HipConfig&, const AttentionShape&,   \
                                                        AttentionPlan&);                           \
  extern template HIP_ATTN_API Status run_decode(const AttentionPlan&, const AttentionArgs<T, C>&, \
                                                 Workspace, Stream);                               \
  extern template HIP_ATTN_API Status run_decode(const AttentionPlan&, const AttentionArgs<T, C>&, \
                                                 Workspace, ThreadTeam&, int);
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_EXTERN_)
#undef HIP_ATTN_EXTERN_

}  // namespace hip_attn
