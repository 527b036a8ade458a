// A cache in host memory with a store, in C that C++ takes too: an append and a decode step of one
// request.
#pragma once

#include "decode_step.h"

enum { kHomeBlocks = 128 };

// What one layer has: its cache in host memory, and what the device keeps of it.
typedef struct Layer {
  DLDevice device;
  DLDataType dtype;
  int64_t head_dim;
  HipAttnHostMemory* home;
  HipAttnKvStorePlan* store_plan;
  void* store_memory;
  size_t store_bytes;
} Layer;

// [c-store]
// Host memory for blocks of 8 tokens, and a plan that divides `budget` bytes of the device among
// the requests.
static HipAttnStatus make_layer(const HipAttnConfig* config, size_t budget, Layer* layer,
                                char* message, size_t capacity) {
  HipAttnKvStoreShape shape;
  memset(&shape, 0, sizeof(shape));
  shape.struct_size = sizeof(shape);
  shape.device = layer->device;
  shape.dtype = layer->dtype;
  shape.max_requests = 1;
  shape.max_seq_len = kHomeBlocks * HIP_ATTN_KV_BLOCK_TOKENS;
  shape.num_kv_heads = kKvHeads;
  shape.head_dim = layer->head_dim;
  HipAttnStatus status =
      hip_attn_plan_kv_store(config, &shape, budget, &layer->store_plan, message, capacity);
  if (status != HIP_ATTN_OK) return status;

  HipAttnKvStorePlanInfo info;
  memset(&info, 0, sizeof(info));
  info.struct_size = sizeof(info);
  status = hip_attn_kv_store_plan_info(layer->store_plan, &info, message, capacity);
  if (status != HIP_ATTN_OK) return status;
  layer->store_bytes = info.memory_bytes;  // 0 on the CPU

  const int64_t token = 2 * kKvHeads * layer->head_dim * (layer->dtype.bits / 8);  // k and v
  const size_t bytes = (size_t)(kHomeBlocks * HIP_ATTN_KV_BLOCK_TOKENS * token);
  return hip_attn_host_memory_allocate(layer->device, bytes, &layer->home, message, capacity);
}
// [c-store]

// [c-store-step]
// Appends the row at `position` of one request and decodes behind it. k and v of the step are
// [1, 2, D], q and out [1, 8, D].
static HipAttnStatus store_step(const Layer* layer, const HipAttnPlan* plan, void* workspace,
                                size_t workspace_bytes, const DLTensor* new_k,
                                const DLTensor* new_v, const DLTensor* q, const DLTensor* out,
                                const DLTensor* block_table, const DLTensor* slot_mapping,
                                const DLTensor* seq_lens, const DLTensor* cu_seqlens, char* message,
                                size_t capacity) {
  // [block, KV head, {K, V}, 8, D] in memory, as pages [block, 8, KV head, D].
  const int64_t half = HIP_ATTN_KV_BLOCK_TOKENS * layer->head_dim;
  int64_t sizes[4] = {kHomeBlocks, HIP_ATTN_KV_BLOCK_TOKENS, kKvHeads, layer->head_dim};
  int64_t strides[4] = {2 * half * kKvHeads, layer->head_dim, 2 * half, 1};
  DLTensor k = tensor(hip_attn_host_memory_data(layer->home), layer->dtype, 4, sizes);
  k.strides = strides;
  if (layer->device.device_type == kDLCUDA) k.device.device_type = kDLCUDAHost;
  DLTensor v = k;
  v.byte_offset = (uint64_t)(half * (layer->dtype.bits / 8));
  const HipAttnKvPages pages = {sizeof(pages), &k, &v};

  int64_t store_bytes = (int64_t)layer->store_bytes;
  const DLDataType uint8 = {kDLUInt, 8, 1};
  DLTensor memory = tensor(layer->store_memory, uint8, 1, &store_bytes);
  memory.device = layer->device;
  const HipAttnKvStore store = {sizeof(store), layer->store_plan,
                                layer->store_memory != NULL ? &memory : NULL, NULL};
  const HipAttnAppendStore hot = {sizeof(hot), &store, block_table, seq_lens, cu_seqlens, NULL};
  const HipAttnAppendKvArgs append = {sizeof(append), new_k, new_v, slot_mapping,
                                      &pages,         NULL,  &hot};
  HipAttnStatus status = hip_attn_append_kv(layer->device, &append, NULL, message, capacity);
  if (status != HIP_ATTN_OK) return status;

  const HipAttnPagedKv kv = {sizeof(kv), &pages, block_table};
  HipAttnAttentionArgs args;
  memset(&args, 0, sizeof(args));
  args.struct_size = sizeof(args);
  args.q = q;
  args.kv = &kv;
  args.seq_lens = seq_lens;
  args.cu_seqlens_q = cu_seqlens;
  args.out = out;
  args.store = &store;
  return hip_attn_decode(plan, &args, workspace, workspace_bytes, NULL, message, capacity);
}
// [c-store-step]

// [c-store-bind]
// The store is emptied once, and a request that begins is given its row.
static HipAttnStatus begin_request(const HipAttnKvStore* store, const DLTensor* block_table,
                                   const DLTensor* seq_lens, char* message, size_t capacity) {
  HipAttnStatus status = hip_attn_clear_kv_store(store, NULL, message, capacity);
  if (status != HIP_ATTN_OK) return status;
  const HipAttnBindKvStoreArgs args = {sizeof(args), store, kHomeBlocks, block_table, seq_lens};
  return hip_attn_bind_kv_store(&args, NULL, message, capacity);
}
// [c-store-bind]

// The value of the only key that is appended comes out. 0 when it does.
static int store_step_finds_the_key(void) {
  char message[512] = "out is not 7";
  Layer layer;
  memset(&layer, 0, sizeof(layer));
  layer.device.device_type = kDLCPU;
  if (hip_attn_built_dtypes(&layer.dtype, 1) < 1) return 1;
  if (hip_attn_built_head_dims(&layer.head_dim, 1) < 1) return 1;
  HipAttnConfig* config = NULL;
  HipAttnPlan* plan = NULL;
  void* workspace = NULL;
  size_t workspace_bytes = 0;
  HipAttnStatus status =
      hip_attn_config_from_preset("infinite_hip", NULL, &config, message, sizeof(message));
  if (status == HIP_ATTN_OK) {
    status = make_layer(config, 0, &layer, message, sizeof(message));
  }
  if (status == HIP_ATTN_OK) {
    status = make_plan(1, layer.dtype, layer.head_dim, &plan, &workspace, &workspace_bytes, message,
                       sizeof(message));
  }
  hip_attn_config_destroy(config);

  const DLDataType int32 = {kDLInt, 32, 1};
  const DLDataType int64 = {kDLInt, 64, 1};
  const size_t bytes = (size_t)(kHeads * layer.head_dim) * 4;
  void* rows = aligned_alloc(64, bytes);
  void* out = aligned_alloc(64, bytes);
  fill(rows, layer.dtype, 0, kHeads * layer.head_dim, 7.f);
  int64_t row_sizes[3] = {1, kKvHeads, layer.head_dim};
  int64_t q_sizes[3] = {1, kHeads, layer.head_dim};
  int64_t one = 1, two = 2, table_sizes[2] = {1, 1};
  const int32_t block[1] = {5}, no_keys[1] = {0}, lens[1] = {1}, starts[2] = {0, 1};
  const int64_t slots[1] = {5 * HIP_ATTN_KV_BLOCK_TOKENS};
  const DLTensor row = tensor(rows, layer.dtype, 3, row_sizes);
  const DLTensor q = tensor(rows, layer.dtype, 3, q_sizes);
  const DLTensor result = tensor(out, layer.dtype, 3, q_sizes);
  const DLTensor block_table = tensor(block, int32, 2, table_sizes);
  const DLTensor slot_mapping = tensor(slots, int64, 1, &one);
  const DLTensor lens_before = tensor(no_keys, int32, 1, &one);
  const DLTensor seq_lens = tensor(lens, int32, 1, &one);
  const DLTensor cu_seqlens = tensor(starts, int32, 1, &two);
  const HipAttnKvStore store = {sizeof(store), layer.store_plan, NULL, NULL};
  if (status == HIP_ATTN_OK) {
    status = begin_request(&store, &block_table, &lens_before, message, sizeof(message));
  }
  if (status == HIP_ATTN_OK) {
    status =
        store_step(&layer, plan, workspace, workspace_bytes, &row, &row, &q, &result, &block_table,
                   &slot_mapping, &seq_lens, &cu_seqlens, message, sizeof(message));
  }
  const int found =
      status == HIP_ATTN_OK && is_filled(out, layer.dtype, kHeads * layer.head_dim, 7.f);
  if (!found) printf("%s: %s\n", hip_attn_status_name(status), message);
  hip_attn_plan_destroy(plan);
  hip_attn_kv_store_plan_destroy(layer.store_plan);
  hip_attn_host_memory_destroy(layer.home);
  free(workspace);
  free(rows);
  free(out);
  return !found;
}
