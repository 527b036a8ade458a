/// KV offload: the cache of a layer lies in host memory ("home"), and the GPU keeps the blocks that
/// requests read (hip_attn/offload.hpp, docs/guide/offload.md). Results are the same bits as
/// without.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/config.h"
#include "hip_attn/c/export.h"
#include "hip_attn/c/status.h"
#include "hip_attn/c/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/// Tokens of a block.
enum { HIP_ATTN_KV_BLOCK_TOKENS = 8 };

/// Host memory that a device reads and writes in place: hip_attn::HostMemory. A tensor in that of a
/// CUDA device is of kDLCUDAHost.
typedef struct HipAttnHostMemory HipAttnHostMemory;

/// Zeroed memory of `bytes` for `device`, kDLCPU or kDLCUDA, which pins it. Errors: NULL_POINTER,
/// UNSUPPORTED, CUDA_ERROR, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_host_memory_allocate(DLDevice device, size_t bytes,
                                                         HipAttnHostMemory** memory, char* message,
                                                         size_t message_capacity);

/// Null for null, and for memory of no bytes.
HIP_ATTN_API void* hip_attn_host_memory_data(const HipAttnHostMemory* memory);
/// In bytes. 0 for null.
HIP_ATTN_API size_t hip_attn_host_memory_size(const HipAttnHostMemory* memory);

/// Gives back about `bytes` from the end, at least a piece of 256 MiB, and returns what is left: to
/// give terabytes back takes seconds, and whoever cannot wait so long calls again later. 0 for
/// null.
HIP_ATTN_API size_t hip_attn_host_memory_release(HipAttnHostMemory* memory, size_t bytes);

/// Gives everything back that is left.
HIP_ATTN_API void hip_attn_host_memory_destroy(HipAttnHostMemory* memory);

/// The maxima that a store is made for.
typedef struct HipAttnKvStoreShape {
  size_t struct_size;
  DLDevice device;       ///< kDLCPU, or kDLCUDA and its ordinal
  DLDataType dtype;      ///< of keys and values; on CUDA float16 or bfloat16
  int64_t max_requests;  ///< rows of the store's table, 1 to 65535
  int64_t max_seq_len;   ///< that of the plans whose selection caches the store looks at
  int64_t num_kv_heads;
  int64_t head_dim;
} HipAttnKvStoreShape;

/// For the stores of any number of layers. Any number of threads may use it.
typedef struct HipAttnKvStorePlan HipAttnKvStorePlan;

typedef struct HipAttnKvStorePlanInfo {
  size_t struct_size;
  size_t memory_bytes;  ///< on the device, of one store; 0 on the CPU
  size_t least_budget;  ///< bytes that hold what one step of every request reads
  int64_t slots;        ///< blocks that one request and KV head can have on the device
} HipAttnKvStorePlanInfo;

/// hip_attn::plan_kv_store: divides `budget_bytes` of device memory among requests and KV heads.
/// Errors: NULL_POINTER, INVALID_ARGUMENT, INVALID_CONFIG, INVALID_SHAPE, UNSUPPORTED,
/// BUDGET_TOO_SMALL, CUDA_ERROR, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_plan_kv_store(const HipAttnConfig* config,
                                                  const HipAttnKvStoreShape* shape,
                                                  size_t budget_bytes, HipAttnKvStorePlan** plan,
                                                  char* message, size_t message_capacity);

/// Writes as much of `info` as its struct_size says. Errors: NULL_POINTER, INVALID_ARGUMENT.
HIP_ATTN_API HipAttnStatus hip_attn_kv_store_plan_info(const HipAttnKvStorePlan* plan,
                                                       HipAttnKvStorePlanInfo* info, char* message,
                                                       size_t message_capacity);

HIP_ATTN_API void hip_attn_kv_store_plan_destroy(HipAttnKvStorePlan* plan);

/// The store of one layer as a call takes it: hip_attn::KvStore.
typedef struct HipAttnKvStore {
  size_t struct_size;
  const HipAttnKvStorePlan* plan;
  /// uint8 [at least memory_bytes of the plan] on its device, 16-byte aligned. Absent: where the
  /// plan is for the CPU.
  const DLTensor* memory;
  /// int32 [B]: the table's row of request b, 0 to max_requests - 1, each used once. Absent: row b.
  const DLTensor* rows;
} HipAttnKvStore;

/// hip_attn::clear_kv_store: empties a store, whose memory holds anything. Errors: NULL_POINTER,
/// INVALID_ARGUMENT, INVALID_SHAPE, INVALID_STRIDE, MISALIGNED_POINTER, CUDA_ERROR, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_clear_kv_store(const HipAttnKvStore* store,
                                                   HipAttnStream stream, char* message,
                                                   size_t message_capacity);

typedef struct HipAttnBindKvStoreArgs {
  size_t struct_size;
  const HipAttnKvStore* store;
  int64_t num_home_blocks;      ///< of the cache in host memory
  const DLTensor* block_table;  ///< int32 [B, columns]: the home block of each 8 tokens
  const DLTensor* seq_lens;     ///< int32 [B]: keys that each request has already
} HipAttnBindKvStoreArgs;

/// hip_attn::bind_kv_store: gives each request its row of the table, when a request begins. Errors:
/// those of hip_attn_clear_kv_store and EXCEEDS_PLAN.
HIP_ATTN_API HipAttnStatus hip_attn_bind_kv_store(const HipAttnBindKvStoreArgs* args,
                                                  HipAttnStream stream, char* message,
                                                  size_t message_capacity);

/// What a store has done since it was emptied, in blocks of one KV head.
typedef struct HipAttnKvStoreCounters {
  size_t struct_size;
  int64_t hits;       ///< asked for when a search began anew or ahead, and hot
  int64_t misses;     ///< copied to the device
  int64_t evictions;  ///< that made room
} HipAttnKvStoreCounters;

/// hip_attn::read_kv_store_counters, which waits for the stream. All are 0 on the CPU. Writes as
/// much of `counters` as its struct_size says. Errors: those of hip_attn_clear_kv_store.
HIP_ATTN_API HipAttnStatus hip_attn_read_kv_store_counters(const HipAttnKvStore* store,
                                                           HipAttnKvStoreCounters* counters,
                                                           HipAttnStream stream, char* message,
                                                           size_t message_capacity);

#ifdef __cplusplus
}
#endif
