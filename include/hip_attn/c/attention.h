/// Prefill and decode: shapes, plans, arguments and calls (hip_attn/attention.hpp, prefill.hpp,
/// decode.hpp, selection.hpp and threads.hpp say more of each).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/config.h"
#include "hip_attn/c/export.h"
#include "hip_attn/c/kv.h"
#include "hip_attn/c/selection.h"
#include "hip_attn/c/status.h"
#include "hip_attn/c/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/// The maxima that a plan is made for; calls may be smaller in every member but heads and head_dim.
typedef struct HipAttnShape {
  size_t struct_size;
  DLDevice device;         ///< kDLCPU, or kDLCUDA and its ordinal
  DLDataType dtype;        ///< of q and out: float32, float16 or bfloat16
  DLDataType cache_dtype;  ///< of keys and values; zero: as dtype. float32 takes any
  int64_t batch;           ///< B, requests; >= 0
  int64_t total_q;         ///< query rows of all requests together; >= 0
  int64_t max_seq_len;     ///< keys of one request; 0 to 2^31 - 1
  int64_t num_q_heads;     ///< Hq, a multiple of Hk
  int64_t num_kv_heads;    ///< Hk
  int64_t head_dim;        ///< D, one that was built
  int64_t num_threads;     ///< CPU: threads of a call, 0 to 4096. 0: as OpenMP would start
  /// Prefill with a store on CUDA: bytes of the workspace through which blocks come over the link,
  /// each once in a call. What they do not hold is read where it lies. 0: all is.
  size_t staging_bytes;
} HipAttnShape;

/// For as many calls as fit its shape. Any number of threads may use it, while none changes it.
typedef struct HipAttnPlan HipAttnPlan;

/// What a plan says of itself: hip_attn::AttentionPlan.
typedef struct HipAttnPlanInfo {
  size_t struct_size;
  size_t workspace_bytes;             ///< exact; independent of max_seq_len^2
  size_t selection_cache_slot_bytes;  ///< decode: bytes of a selection cache per slot
  int64_t selection_rows;             ///< rows of a selection for the largest call
  int64_t max_selected_blocks;        ///< blocks of one unit at most, >= 1
  int64_t dense_until;                ///< prefill: query blocks before it attend to every key
  int64_t num_threads;                ///< CPU: threads that a call has room for
} HipAttnPlanInfo;

/// Rows of one request that a decode call takes at most: hip_attn::kMaxDecodeRows.
enum { HIP_ATTN_MAX_DECODE_ROWS = 8 };

/// Checks config and shape and makes a plan: host arithmetic, and for a CUDA device questions to
/// its driver. Errors: NULL_POINTER, INVALID_ARGUMENT, INVALID_CONFIG, INVALID_SHAPE, UNSUPPORTED,
/// CUDA_ERROR, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_plan_prefill(const HipAttnConfig* config,
                                                 const HipAttnShape* shape, HipAttnPlan** plan,
                                                 char* message, size_t message_capacity);
HIP_ATTN_API HipAttnStatus hip_attn_plan_decode(const HipAttnConfig* config,
                                                const HipAttnShape* shape, HipAttnPlan** plan,
                                                char* message, size_t message_capacity);

/// Writes as much of `info` as its struct_size says. Errors: NULL_POINTER, INVALID_ARGUMENT.
HIP_ATTN_API HipAttnStatus hip_attn_plan_info(const HipAttnPlan* plan, HipAttnPlanInfo* info,
                                              char* message, size_t message_capacity);

/// Errors: NULL_POINTER.
HIP_ATTN_API HipAttnStatus hip_attn_plan_set_dense_until(HipAttnPlan* plan, int64_t dense_until,
                                                         char* message, size_t message_capacity);
/// 1 to the number that the plan has now. Errors: NULL_POINTER, INVALID_ARGUMENT.
HIP_ATTN_API HipAttnStatus hip_attn_plan_set_num_threads(HipAttnPlan* plan, int64_t num_threads,
                                                         char* message, size_t message_capacity);

HIP_ATTN_API void hip_attn_plan_destroy(HipAttnPlan* plan);

/// The selection row of query block n (0: the block of the request's first row) of request b. 0
/// where block_q is not above 0.
HIP_ATTN_API int64_t hip_attn_selection_row(int64_t cu_seqlens_q_b, int64_t b, int64_t n,
                                            int64_t block_q);

/// Blocks of trained indexers, in any order, padded with -1: hip_attn::IndexSelectionArgs.
typedef struct HipAttnIndexSelectionArgs {
  size_t struct_size;
  const DLTensor* indices;            ///< int32 [total_q, Hk or 1, top_k]; negative: none
  const DLTensor* seq_lens;           ///< int32 [B]
  const DLTensor* cu_seqlens_q;       ///< int32 [B + 1]
  const HipAttnSelection* selection;  ///< written
} HipAttnIndexSelectionArgs;

/// hip_attn::make_index_selection (hip_attn/index_selection.hpp), whose cost and errors it has, and
/// NULL_POINTER and INVALID_ARGUMENT of the C interface.
HIP_ATTN_API HipAttnStatus hip_attn_make_index_selection(const HipAttnPlan* plan,
                                                         const HipAttnIndexSelectionArgs* args,
                                                         HipAttnStream stream, char* message,
                                                         size_t message_capacity);

/// Arguments of prefill and decode: hip_attn::AttentionArgs, member for member. T is the dtype of
/// the plan, C its cache_dtype; int32 and int64 are those of the host.
typedef struct HipAttnAttentionArgs {
  size_t struct_size;
  /// T [total_q, Hq, D], or [B, R, Hq, D] for a batch with strides of its own (transposed from
  /// [B, Hq, R, D], say), of whose requests none has more than R rows (q_request_stride).
  const DLTensor* q;
  const HipAttnPagedKv* kv;               ///< of C; the rows of this call already appended
  const DLTensor* seq_lens;               ///< int32 [B] keys of each request; 0: padding
  const DLTensor* cu_seqlens_q;           ///< int32 [B + 1] ascending from 0 to total_q
  const DLTensor* out;                    ///< T [total_q, Hq, D] written
  const DLTensor* lse;                    ///< float32 [total_q, Hq] written, or absent
  const float* scale;                     ///< finite; absent: 1 / sqrt(D)
  const float* logit_softcap;             ///< finite, above 0; absent: none
  const HipAttnSelection* selection_out;  ///< written, or absent
  const HipAttnSelection* selection;      ///< given: no search, attend to these blocks
  const HipAttnSelectionCache* cache;     ///< decode only; not together with `selection`
  const HipAttnLandmarks* landmarks;      ///< of C; needed where the config has landmark stages
  const DLTensor* counters;               ///< int64 [num_stages + 2], added to, or absent
  const HipAttnKvStore* store;            ///< of a cache in host memory; on the CPU only checked
} HipAttnAttentionArgs;

/// hip_attn::run_prefill and run_decode, whose cost and errors they have, and NULL_POINTER,
/// INVALID_ARGUMENT and OUT_OF_MEMORY of the C interface. `workspace` is on the plan's device,
/// 16-byte aligned. On success nothing is allocated.
HIP_ATTN_API HipAttnStatus hip_attn_prefill(const HipAttnPlan* plan,
                                            const HipAttnAttentionArgs* args, void* workspace,
                                            size_t workspace_bytes, HipAttnStream stream,
                                            char* message, size_t message_capacity);
HIP_ATTN_API HipAttnStatus hip_attn_decode(const HipAttnPlan* plan,
                                           const HipAttnAttentionArgs* args, void* workspace,
                                           size_t workspace_bytes, HipAttnStream stream,
                                           char* message, size_t message_capacity);

/// Threads of the caller that run one call of the CPU backend together: hip_attn::ThreadTeam.
typedef struct HipAttnThreadTeam HipAttnThreadTeam;

/// size: 1 to num_threads of the plans that it will run. Errors: NULL_POINTER, INVALID_ARGUMENT,
/// OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_thread_team_create(int32_t size, HipAttnThreadTeam** team,
                                                       char* message, size_t message_capacity);
HIP_ATTN_API void hip_attn_thread_team_destroy(HipAttnThreadTeam* team);

/// Part `part` (0 to size - 1) of the same call, which all parts make with the same arguments.
/// Also UNSUPPORTED for another device than the CPU, and INVALID_SHAPE for a team of more parts
/// than the plan has threads, or a part that it does not have.
HIP_ATTN_API HipAttnStatus hip_attn_prefill_part(const HipAttnPlan* plan,
                                                 const HipAttnAttentionArgs* args, void* workspace,
                                                 size_t workspace_bytes, HipAttnThreadTeam* team,
                                                 int32_t part, char* message,
                                                 size_t message_capacity);
HIP_ATTN_API HipAttnStatus hip_attn_decode_part(const HipAttnPlan* plan,
                                                const HipAttnAttentionArgs* args, void* workspace,
                                                size_t workspace_bytes, HipAttnThreadTeam* team,
                                                int32_t part, char* message,
                                                size_t message_capacity);

#ifdef __cplusplus
}
#endif
