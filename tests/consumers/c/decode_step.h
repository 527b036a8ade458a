// What every consumer of the C interface runs: one decode step over a paged cache with known keys,
// in C that C++ takes too.
#pragma once

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hip_attn/c/hip_attn.h"

enum { kHeads = 8, kKvHeads = 2, kPageSize = 16, kMaxPages = 64, kSeqLen = 1000 };

// [c-plan]
// A plan for decode steps of up to `batch` requests, and the workspace that its calls need.
static HipAttnStatus make_plan(int64_t batch, DLDataType dtype, int64_t head_dim,
                               HipAttnPlan** plan, void** workspace, size_t* workspace_bytes,
                               char* message, size_t capacity) {
  HipAttnConfig* config = NULL;
  HipAttnStatus status =
      hip_attn_config_from_preset("infinite_hip", NULL, &config, message, capacity);
  if (status != HIP_ATTN_OK) return status;

  HipAttnShape shape;
  memset(&shape, 0, sizeof(shape));
  shape.struct_size = sizeof(shape);
  shape.device.device_type = kDLCPU;
  shape.dtype = dtype;
  shape.batch = batch;
  shape.total_q = batch;
  shape.max_seq_len = 131072;
  shape.num_q_heads = kHeads;
  shape.num_kv_heads = kKvHeads;
  shape.head_dim = head_dim;
  status = hip_attn_plan_decode(config, &shape, plan, message, capacity);
  hip_attn_config_destroy(config);
  if (status != HIP_ATTN_OK) return status;

  HipAttnPlanInfo info;
  memset(&info, 0, sizeof(info));
  info.struct_size = sizeof(info);
  status = hip_attn_plan_info(*plan, &info, message, capacity);
  if (status != HIP_ATTN_OK) return status;
  *workspace_bytes = info.workspace_bytes;
  *workspace = malloc(info.workspace_bytes);
  return HIP_ATTN_OK;
}
// [c-plan]

// [c-tensor]
// A dense tensor in the CPU's memory; `shape` stays the caller's.
static DLTensor tensor(const void* data, DLDataType dtype, int ndim, int64_t* shape) {
  DLTensor t;
  memset(&t, 0, sizeof(t));
  t.data = (void*)data;
  t.device.device_type = kDLCPU;
  t.ndim = ndim;
  t.dtype = dtype;
  t.shape = shape;
  return t;
}
// [c-tensor]

// What an engine has: arrays of one request, and where its messages go.
typedef struct Engine {
  DLDataType dtype;
  int64_t head_dim;
  const void* q;
  const void* k_pages;
  const void* v_pages;
  void* out;
  const int32_t* block_table;
  const int32_t* seq_lens;
  const int32_t* cu_seqlens_q;
} Engine;

// [c-decode]
// One decode step of one request: q and out are [1, 8, D], the pages [64, 16, 2, D].
static HipAttnStatus decode_step(const Engine* engine, const HipAttnPlan* plan, void* workspace,
                                 size_t workspace_bytes, char* message, size_t capacity) {
  const DLDataType int32 = {kDLInt, 32, 1};
  int64_t rows[3] = {1, kHeads, engine->head_dim};
  int64_t pages_shape[4] = {kMaxPages, kPageSize, kKvHeads, engine->head_dim};
  int64_t table_shape[2] = {1, kMaxPages};
  int64_t lens_shape[1] = {1};
  int64_t starts_shape[1] = {2};
  const DLTensor q = tensor(engine->q, engine->dtype, 3, rows);
  const DLTensor out = tensor(engine->out, engine->dtype, 3, rows);
  const DLTensor k = tensor(engine->k_pages, engine->dtype, 4, pages_shape);
  const DLTensor v = tensor(engine->v_pages, engine->dtype, 4, pages_shape);
  const DLTensor block_table = tensor(engine->block_table, int32, 2, table_shape);
  const DLTensor seq_lens = tensor(engine->seq_lens, int32, 1, lens_shape);
  const DLTensor cu_seqlens_q = tensor(engine->cu_seqlens_q, int32, 1, starts_shape);

  const HipAttnKvPages pages = {sizeof(pages), &k, &v};
  const HipAttnPagedKv kv = {sizeof(kv), &pages, &block_table};
  HipAttnAttentionArgs args;
  memset(&args, 0, sizeof(args));
  args.struct_size = sizeof(args);
  args.q = &q;
  args.kv = &kv;
  args.seq_lens = &seq_lens;
  args.cu_seqlens_q = &cu_seqlens_q;
  args.out = &out;
  return hip_attn_decode(plan, &args, workspace, workspace_bytes, NULL, message, capacity);
}
// [c-decode]

// [c-append]
// Writes the keys and values of new tokens, [num_tokens, 2, D], to slots of the cache, page * 16 +
// offset each.
static HipAttnStatus append(const Engine* engine, const void* new_k, const void* new_v,
                            const int64_t* slots, int64_t num_tokens, char* message,
                            size_t capacity) {
  const DLDevice cpu = {kDLCPU, 0};
  const DLDataType int64 = {kDLInt, 64, 1};
  int64_t rows[3] = {num_tokens, kKvHeads, engine->head_dim};
  int64_t pages_shape[4] = {kMaxPages, kPageSize, kKvHeads, engine->head_dim};
  const DLTensor k = tensor(new_k, engine->dtype, 3, rows);
  const DLTensor v = tensor(new_v, engine->dtype, 3, rows);
  const DLTensor slot_mapping = tensor(slots, int64, 1, &num_tokens);
  const DLTensor k_pages = tensor(engine->k_pages, engine->dtype, 4, pages_shape);
  const DLTensor v_pages = tensor(engine->v_pages, engine->dtype, 4, pages_shape);
  const HipAttnKvPages pages = {sizeof(pages), &k_pages, &v_pages};
  const HipAttnAppendKvArgs args = {sizeof(args), &k, &v, &slot_mapping, &pages, NULL, NULL};
  return hip_attn_append_kv(cpu, &args, NULL, message, capacity);
}
// [c-append]

// [c-stages]
// infinite_hip with a larger budget: read a preset's values, change them, make a config of them.
static HipAttnStatus with_budget(int64_t tokens, HipAttnConfig** config, char* message,
                                 size_t capacity) {
  HipAttnConfig* preset = NULL;
  HipAttnStatus status =
      hip_attn_config_from_preset("infinite_hip", NULL, &preset, message, capacity);
  if (status != HIP_ATTN_OK) return status;
  HipAttnConfigValues values = {sizeof(values), 0, 0, 0, 0, 0, NULL};
  HipAttnStage stages[32];
  status = hip_attn_config_values(preset, &values, message, capacity);
  for (int32_t i = 0; status == HIP_ATTN_OK && i < values.num_stages; ++i) {
    stages[i].struct_size = sizeof(stages[i]);
    status = hip_attn_config_stage(preset, i, &stages[i], message, capacity);
  }
  hip_attn_config_destroy(preset);
  if (status != HIP_ATTN_OK) return status;
  stages[values.num_stages - 1].keep = tokens;
  values.stages = stages;
  return hip_attn_config_create(&values, config, message, capacity);
}
// [c-stages]

// [c-cells]
// A cache whose cells 3, 1 and 0 hold the tokens of sequence 7, and cell 2 one of sequence 9. Its
// batch has the last token of each as a row.
static HipAttnStatus cell_requests(HipAttnCells* cells, HipAttnCellRequests* requests,
                                   char* message, size_t capacity) {
  static const int32_t key_sequences[4] = {7, 7, 9, 7};
  static const int64_t key_positions[4] = {2, 1, 0, 0};
  static const int32_t key_pages[4] = {0, 1, 2, 3};
  static const int32_t row_sequences[2] = {9, 7};
  static const int64_t row_positions[2] = {0, 2};
  HipAttnCellBatch batch;
  memset(&batch, 0, sizeof(batch));
  batch.struct_size = sizeof(batch);
  batch.num_keys = 4;
  batch.key_sequences = key_sequences;
  batch.key_positions = key_positions;
  batch.key_pages = key_pages;
  batch.num_rows = 2;
  batch.row_sequences = row_sequences;
  batch.row_positions = row_positions;
  requests->struct_size = sizeof(*requests);
  return hip_attn_cells_requests(cells, &batch, requests, message, capacity);
}
// [c-cells]

// Lengths are 1 and 3, and the second table is that of sequence 7. 0 when they are.
static int cells_are_in_order(void) {
  HipAttnCells* cells = NULL;
  HipAttnCellRequests requests;
  memset(&requests, 0, sizeof(requests));
  int failed = 1;
  if (hip_attn_cells_create(&cells, NULL, 0) == HIP_ATTN_OK &&
      cell_requests(cells, &requests, NULL, 0) == HIP_ATTN_OK) {
    const int32_t* lens = (const int32_t*)requests.seq_lens->data;
    const int32_t* table = (const int32_t*)requests.block_table->data;
    failed = lens[0] != 1 || lens[1] != 3 || requests.block_table->shape[1] != 3 || table[0] != 2 ||
             table[3] != 3 || table[4] != 1 || table[5] != 0;
  }
  hip_attn_cells_destroy(cells);
  return failed;
}

// Sets elements to a value that every element type has, 0 or a normal number.
static void fill(void* data, DLDataType dtype, int64_t first, int64_t count, float value) {
  for (int64_t i = first; i < first + count; ++i) {
    if (dtype.bits == 32) {
      ((float*)data)[i] = value;
    } else {
      uint32_t bits;
      memcpy(&bits, &value, sizeof(bits));
      const uint32_t half = value == 0.f ? 0 : ((bits >> 13) - 0x1c000u) & 0x7fffu;
      const uint32_t sign = (bits >> 16) & 0x8000u;
      ((uint16_t*)data)[i] = (uint16_t)(dtype.code == kDLBfloat ? bits >> 16 : (half | sign));
    }
  }
}

static int is_filled(const void* data, DLDataType dtype, int64_t count, float value) {
  uint32_t expected = 0;
  fill(&expected, dtype, 0, 1, value);
  for (int64_t i = 0; i < count; ++i) {
    if (dtype.bits == 32 && fabsf(((const float*)data)[i] - value) > 1e-3f) return 0;
    if (dtype.bits == 16 && ((const uint16_t*)data)[i] != (uint16_t)expected) return 0;
  }
  return 1;
}

// One chunk of keys points where the query does: the output is its value. 0 when it is.
static int decode_finds_the_keys(void) {
  char message[512];
  DLDataType dtype;
  int64_t head_dim;
  if (hip_attn_built_dtypes(&dtype, 1) < 1 || hip_attn_built_head_dims(&head_dim, 1) < 1) return 1;
  const size_t element = dtype.bits / 8u;
  const int64_t row = kKvHeads * head_dim;
  const size_t cache_bytes = (size_t)(kMaxPages * kPageSize * row) * element;
  const size_t q_bytes = (size_t)(kHeads * head_dim) * element;
  void* q = aligned_alloc(64, q_bytes);
  void* out = aligned_alloc(64, q_bytes);
  void* k = aligned_alloc(64, cache_bytes);
  void* v = aligned_alloc(64, cache_bytes);
  fill(q, dtype, 0, kHeads * head_dim, 1.f);
  fill(k, dtype, 0, kMaxPages * kPageSize * row, 0.f);
  fill(v, dtype, 0, kMaxPages * kPageSize * row, -1.f);
  // One token of the chunk is appended below.
  fill(k, dtype, 496 * row, 15 * row, 4.f);
  fill(v, dtype, 496 * row, 15 * row, 7.f);
  void* new_k = aligned_alloc(64, (size_t)row * element);
  void* new_v = aligned_alloc(64, (size_t)row * element);
  fill(new_k, dtype, 0, row, 4.f);
  fill(new_v, dtype, 0, row, 7.f);
  int32_t block_table[kMaxPages];
  for (int32_t i = 0; i < kMaxPages; ++i) block_table[i] = i;
  const int32_t seq_lens[1] = {kSeqLen};
  const int32_t cu_seqlens_q[2] = {0, 1};
  const Engine engine = {dtype, head_dim, q, k, v, out, block_table, seq_lens, cu_seqlens_q};

  const int64_t slots[1] = {511};
  HipAttnConfig* config = NULL;
  if (append(&engine, new_k, new_v, slots, 1, message, sizeof(message)) != HIP_ATTN_OK ||
      with_budget(4096, &config, message, sizeof(message)) != HIP_ATTN_OK) {
    printf("%s\n", message);
    return 1;
  }
  hip_attn_config_destroy(config);

  HipAttnPlan* plan = NULL;
  void* workspace = NULL;
  size_t workspace_bytes = 0;
  HipAttnStatus status =
      make_plan(1, dtype, head_dim, &plan, &workspace, &workspace_bytes, message, sizeof(message));
  if (status == HIP_ATTN_OK) {
    status = decode_step(&engine, plan, workspace, workspace_bytes, message, sizeof(message));
  }
  int failed = 1;
  if (status != HIP_ATTN_OK) {
    printf("%s: %s\n", hip_attn_status_name(status), message);
  } else if (!is_filled(out, dtype, kHeads * head_dim, 7.f)) {
    printf("out is not 7\n");
  } else {
    failed = 0;
  }
  // [c-error]
  status = hip_attn_decode(plan, NULL, workspace, workspace_bytes, NULL, message, sizeof(message));
  if (status != HIP_ATTN_OK) printf("%s: %s\n", hip_attn_status_name(status), message);
  // [c-error]
  if (status != HIP_ATTN_NULL_POINTER) failed = 1;
  hip_attn_plan_destroy(plan);
  free(workspace);
  free(q);
  free(out);
  free(k);
  free(v);
  free(new_k);
  free(new_v);
  return failed;
}
