/// A KV cache and its landmarks, the operators that write into them, and those that change what
/// attention gave (hip_attn/kv.hpp, landmarks.hpp, merge.hpp, sink_logits.hpp). Element types are
/// float32, float16 and bfloat16.
///
/// Tensors are borrowed for the call. They are row-major and dense where strides is null. Data and
/// row strides of q, out, keys, values, landmarks and partial_out are multiples of 16 bytes. A CPU
/// operator takes memory of kDLCPU, kDLCUDAHost and kDLCUDAManaged, one on CUDA device i that of
/// kDLCUDA i, kDLCUDAHost and kDLCUDAManaged.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/export.h"
#include "hip_attn/c/offload.h"
#include "hip_attn/c/selection.h"
#include "hip_attn/c/status.h"
#include "hip_attn/c/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/// The pages of one layer's cache, [num_pages, page_size, Hk, D] each, whatever the memory order:
/// NHD and HND differ in strides alone. Contiguous KV is one page per request.
typedef struct HipAttnKvPages {
  size_t struct_size;
  const DLTensor* k;
  const DLTensor* v;
} HipAttnKvPages;

/// What an operator reads: pages and the table that gives each request its own.
typedef struct HipAttnPagedKv {
  size_t struct_size;
  const HipAttnKvPages* pages;
  /// int32 [B, max_pages]: token t of request b is in page block_table(b, t / page_size) at offset
  /// t % page_size. Absent: request b owns page b.
  const DLTensor* block_table;
} HipAttnPagedKv;

/// The landmarks of chunks of one size: hip_attn::LandmarkLevel.
typedef struct HipAttnLandmarkLevel {
  size_t struct_size;
  int64_t chunk_size;    ///< tokens, a power of two
  const DLTensor* rows;  ///< [num_pages, landmarks_per_page, Hk, 2, D], hi before lo
  /// int32 [B, max_pages]: landmark j of request b is on page block_table(b, j /
  /// landmarks_per_page) at j % landmarks_per_page. Absent: request b owns page b.
  const DLTensor* block_table;
} HipAttnLandmarkLevel;

/// The landmarks of one layer's cache.
typedef struct HipAttnLandmarks {
  size_t struct_size;
  int64_t num_levels;  ///< 0 to 8
  /// num_levels structs, one behind the other, all of the size that the first one states, their
  /// chunk sizes ascending.
  const HipAttnLandmarkLevel* levels;
  const float* spread;  ///< 0 to 1: from the mean of a chunk's keys to their bounds; default 0.5
} HipAttnLandmarks;

/// The landmarks that an append completes, and what says where its rows belong.
typedef struct HipAttnAppendLandmarks {
  size_t struct_size;
  const HipAttnLandmarks* landmarks;  ///< written
  const DLTensor* block_table;        ///< of the keys' pages, as in HipAttnPagedKv
  const DLTensor* seq_lens;           ///< int32 [B]: keys of each request, this call's included
  const DLTensor* cu_seqlens;         ///< int32 [B + 1] ascending from 0 to num_tokens
} HipAttnAppendLandmarks;

/// A store whose blocks an append keeps hot, and what says which: hip_attn::AppendStore.
typedef struct HipAttnAppendStore {
  size_t struct_size;
  const HipAttnKvStore* store;
  const DLTensor* block_table;  ///< int32 [B, columns]: home blocks
  const DLTensor* seq_lens;     ///< int32 [B]: keys of each request, this call's included
  const DLTensor* cu_seqlens;   ///< int32 [B + 1] ascending from 0 to num_tokens
  /// That of decode; refresh_from is not looked at. Absent: only sink and window become hot.
  const HipAttnSelectionCache* cache;
} HipAttnAppendStore;

typedef struct HipAttnAppendKvArgs {
  size_t struct_size;
  const DLTensor* k;             ///< [num_tokens, Hk, D] new keys
  const DLTensor* v;             ///< [num_tokens, Hk, D] new values
  const DLTensor* slot_mapping;  ///< int64 [num_tokens]: page * page_size + offset; negative: skip
  const HipAttnKvPages* pages;   ///< written
  const HipAttnAppendLandmarks* landmarks;  ///< absent: none are kept
  /// `pages` are in home's layout then: k and v are [num_blocks, 8, Hk, D] with strides of
  /// (16 Hk D, D, 16 D, 1) elements, v 8 D elements behind k.
  const HipAttnAppendStore* store;  ///< absent: none
} HipAttnAppendKvArgs;

/// hip_attn::append_kv, whose cost and errors it has, and NULL_POINTER, INVALID_ARGUMENT and
/// OUT_OF_MEMORY of the C interface. `device` is kDLCPU or kDLCUDA.
HIP_ATTN_API HipAttnStatus hip_attn_append_kv(DLDevice device, const HipAttnAppendKvArgs* args,
                                              HipAttnStream stream, char* message,
                                              size_t message_capacity);

/// What a store is to make hot, apart from an append: hip_attn::AdmitKvStoreArgs.
typedef struct HipAttnAdmitKvStoreArgs {
  size_t struct_size;
  const HipAttnKvStore* store;
  const HipAttnKvPages* pages;         ///< in home's layout
  const DLTensor* block_table;         ///< as in HipAttnAppendStore
  const DLTensor* seq_lens;            ///< int32 [B]: keys that each request has
  const HipAttnSelectionCache* cache;  ///< as in HipAttnAppendStore
} HipAttnAdmitKvStoreArgs;

/// hip_attn::admit_kv_store: what hip_attn_append_kv with a store and a cache does besides writing
/// rows, for a stream beside that of the model. Errors: those of hip_attn_append_kv.
HIP_ATTN_API HipAttnStatus hip_attn_admit_kv_store(const HipAttnAdmitKvStoreArgs* args,
                                                   HipAttnStream stream, char* message,
                                                   size_t message_capacity);

typedef struct HipAttnUpdateLandmarksArgs {
  size_t struct_size;
  const HipAttnPagedKv* kv;           ///< whose keys are summarised
  const DLTensor* from;               ///< int32 [B]: keys of each request before they were appended
  const DLTensor* to;                 ///< int32 [B]: its keys now
  const HipAttnLandmarks* landmarks;  ///< written
  int64_t max_tokens;                 ///< the largest to - from as far as is known; 0: unknown
} HipAttnUpdateLandmarksArgs;

/// hip_attn::update_landmarks, with errors as hip_attn_append_kv.
HIP_ATTN_API HipAttnStatus hip_attn_update_landmarks(DLDevice device,
                                                     const HipAttnUpdateLandmarksArgs* args,
                                                     HipAttnStream stream, char* message,
                                                     size_t message_capacity);

typedef struct HipAttnMergeStatesArgs {
  size_t struct_size;
  const DLTensor* partial_out;  ///< [parts, total_q, Hq, D]
  const DLTensor* partial_lse;  ///< float32 [parts, total_q, Hq] natural log
  const DLTensor* out;          ///< [total_q, Hq, D] written
  const DLTensor* lse;          ///< float32 [total_q, Hq] written, or absent
} HipAttnMergeStatesArgs;

/// hip_attn::merge_states (hip_attn/merge.hpp), with errors as hip_attn_append_kv.
HIP_ATTN_API HipAttnStatus hip_attn_merge_states(DLDevice device,
                                                 const HipAttnMergeStatesArgs* args,
                                                 HipAttnStream stream, char* message,
                                                 size_t message_capacity);

typedef struct HipAttnAddSinkLogitsArgs {
  size_t struct_size;
  const DLTensor* sink_logits;  ///< float32 [Hq] natural log
  const DLTensor* out;          ///< [total_q, Hq, D] changed
  const DLTensor* lse;          ///< float32 [total_q, Hq] changed
} HipAttnAddSinkLogitsArgs;

/// hip_attn::add_sink_logits (hip_attn/sink_logits.hpp), with errors as hip_attn_append_kv.
HIP_ATTN_API HipAttnStatus hip_attn_add_sink_logits(DLDevice device,
                                                    const HipAttnAddSinkLogitsArgs* args,
                                                    HipAttnStream stream, char* message,
                                                    size_t message_capacity);

#ifdef __cplusplus
}
#endif
