// hip_attn in the place of ggml's CPU flash attention, over the C interface. llama.cpp.patch calls
// the two functions at the end. HIP_ATTN_PRESET names the configuration (dense, infinite_hip, ...);
// unset: llama.cpp as it is. What the functions take for granted is in README.md.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "ggml-backend.h"
#include "ggml.h"
#include "hip_attn/c/hip_attn.h"
#include "llama-kv-cache.h"

namespace {

// A tensor of the C interface: `sizes`, and strides in bytes where they are given.
struct Tensor {
  Tensor(void* data, DLDataType dtype, std::vector<int64_t> sizes_, std::vector<size_t> bytes = {})
      : sizes(std::move(sizes_)) {
    for (const size_t stride : bytes) strides.push_back(stride / (dtype.bits / 8));
    tensor.data = data;
    tensor.device = {kDLCPU, 0};
    tensor.ndim = static_cast<int32_t>(sizes.size());
    tensor.dtype = dtype;
    tensor.shape = sizes.data();
    tensor.strides = strides.empty() ? nullptr : strides.data();
  }
  std::vector<int64_t> sizes, strides;
  DLTensor tensor{};
};

DLDataType dtype_of(ggml_type type) {
  return {static_cast<uint8_t>(type == GGML_TYPE_BF16 ? kDLBfloat : kDLFloat),
          static_cast<uint8_t>(8 * ggml_type_size(type)), 1};
}

// The cells of a cache as the requests of its current ubatch; the mask's `extra` points at it.
struct Cells {
  HipAttnCells* handle = nullptr;
  HipAttnCellRequests requests{};
};

// What layers of one cache with equal heads share. Nodes of a context run one after the other.
struct Kind {
  HipAttnShape shape{};
  HipAttnConfig* config = nullptr;
  HipAttnPlan *prefill = nullptr, *decode = nullptr;
  std::vector<char> workspace;
  std::vector<HipAttnThreadTeam*> teams;  // of 1, 2, ... threads
  std::vector<float> lse;                 // of layers with sink logits
  size_t slot_bytes = 0;                  // of a selection cache; 0: the configuration is dense
};

struct Layer {
  Kind* kind = nullptr;
  float scale = 1, softcap = 0;
  void* selections = nullptr;  // a slot for each sequence, zeroed once
};

// By preset, buffer of the cache, type, cells, query heads, KV heads, head dim, window; and by the
// layer's own part of the cache. What a graph points at stays where it is.
using KindKey =
    std::tuple<std::string, const void*, int, int64_t, int64_t, int64_t, int64_t, int64_t>;
std::map<KindKey, Kind> kinds;
std::map<std::tuple<const Kind*, const ggml_tensor*>, Layer> layers;
std::map<const llama_kv_cache*, Cells> caches;
std::mutex mutex;  // of the three
Cells pending;     // what `extra` of a mask is until its cells are known

HipAttnConfig* config_of(const char* preset, int64_t window) {
  HipAttnConfig* config = nullptr;
  HipAttnPresetArgs args{};
  args.struct_size = sizeof(args);
  args.window = window;
  char message[256];
  const char* name = window > 0 ? "sliding_window" : preset;
  if (hip_attn_config_from_preset(name, &args, &config, message, sizeof(message)) != HIP_ATTN_OK) {
    GGML_ABORT("HIP_ATTN_PRESET: %s", message);
  }
  if (hip_attn_config_landmark_chunk_sizes(config, nullptr, 0) > 0) {
    GGML_ABORT("HIP_ATTN_PRESET: %s needs landmarks, which this adapter does not keep", preset);
  }
  return config;
}

// There are none where the library was not built for the shape.
void make_plans(Kind& kind) {
  hip_attn_plan_destroy(kind.prefill);
  hip_attn_plan_destroy(kind.decode);
  kind.prefill = kind.decode = nullptr;
  if (hip_attn_plan_prefill(kind.config, &kind.shape, &kind.prefill, nullptr, 0) != HIP_ATTN_OK ||
      hip_attn_plan_decode(kind.config, &kind.shape, &kind.decode, nullptr, 0) != HIP_ATTN_OK) {
    return;
  }
  HipAttnConfigValues values{};
  values.struct_size = sizeof(values);
  hip_attn_config_values(kind.config, &values, nullptr, 0);
  for (const HipAttnPlan* plan : {kind.prefill, kind.decode}) {
    HipAttnPlanInfo info{};
    info.struct_size = sizeof(info);
    hip_attn_plan_info(plan, &info, nullptr, 0);
    kind.workspace.resize(std::max(kind.workspace.size(), info.workspace_bytes));
    if (values.num_stages > 0) kind.slot_bytes = info.selection_cache_slot_bytes;
    while (static_cast<int64_t>(kind.teams.size()) < info.num_threads) {
      const auto size = static_cast<int32_t>(kind.teams.size() + 1);
      hip_attn_thread_team_create(size, &kind.teams.emplace_back(), nullptr, 0);
    }
  }
  kind.lse.resize(kind.shape.total_q * kind.shape.num_q_heads);
}

// Attends: dst [D, Hq, rows]; src: q, K and V as ggml_flash_attn_ext has them, mask, and, or not,
// sinks. All threads of ggml's pool run it.
void attend(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const Layer& layer = *static_cast<Layer*>(userdata);
  Kind& kind = *layer.kind;
  const int parts = std::min(nth, static_cast<int>(kind.teams.size()));
  if (ith >= parts) return;
  const ggml_tensor &q = *dst->src[0], &k = *dst->src[1], &v = *dst->src[2];
  const Cells& cells = *static_cast<const Cells*>(dst->src[3]->extra);
  const HipAttnCellRequests& requests = cells.requests;
  GGML_ASSERT(cells.handle != nullptr && requests.seq_lens != nullptr);

  const DLDataType f32 = dtype_of(GGML_TYPE_F32), cache = dtype_of(k.type);
  const int64_t head_dim = q.ne[0], heads = q.ne[2], rows = q.ne[1] * q.ne[3];
  const auto pages_of = [&](const ggml_tensor& t) {  // the cells of all streams
    const int64_t count = (t.ne[3] - 1) * static_cast<int64_t>(t.nb[3] / t.nb[1]) + t.ne[1];
    return Tensor(t.data, cache, {count, 1, t.ne[2], head_dim},
                  {t.nb[1], t.nb[1], t.nb[2], t.nb[0]});
  };
  const Tensor q_rows(q.data, f32, {rows, heads, head_dim}, {q.nb[1], q.nb[2], q.nb[0]});
  const Tensor out(dst->data, f32, {rows, heads, head_dim});
  const Tensor lse(kind.lse.data(), f32, {rows, heads});
  const Tensor k_pages = pages_of(k), v_pages = pages_of(v);
  const HipAttnKvPages pages{sizeof(pages), &k_pages.tensor, &v_pages.tensor};
  const HipAttnPagedKv kv{sizeof(kv), &pages, requests.block_table};
  const Tensor bytes(layer.selections, {kDLUInt, 8, 1},
                     {static_cast<int64_t>(kind.slot_bytes) * LLAMA_MAX_SEQ});
  const HipAttnSelectionCache selections{sizeof(selections), &bytes.tensor, LLAMA_MAX_SEQ,
                                         requests.refresh_from, requests.sequences};
  HipAttnAttentionArgs args{};
  args.struct_size = sizeof(args);
  args.q = &q_rows.tensor;
  args.kv = &kv;
  args.seq_lens = requests.seq_lens;
  args.cu_seqlens_q = requests.cu_seqlens_q;
  args.out = &out.tensor;
  args.lse = dst->src[4] != nullptr ? &lse.tensor : nullptr;
  args.scale = &layer.scale;
  args.logit_softcap = layer.softcap != 0 ? &layer.softcap : nullptr;
  args.cache = requests.decode != 0 && layer.selections != nullptr ? &selections : nullptr;

  char message[256];
  const auto run = requests.decode != 0 ? hip_attn_decode_part : hip_attn_prefill_part;
  HipAttnStatus status =
      run(requests.decode != 0 ? kind.decode : kind.prefill, &args, kind.workspace.data(),
          kind.workspace.size(), kind.teams[parts - 1], ith, message, sizeof(message));
  if (status == HIP_ATTN_OK && dst->src[4] != nullptr) {
    const int64_t first = rows * ith / parts, count = rows * (ith + 1) / parts - first;
    const Tensor sinks(dst->src[4]->data, f32, {heads});
    const Tensor part(static_cast<float*>(dst->data) + first * heads * head_dim, f32,
                      {count, heads, head_dim});
    const Tensor part_lse(kind.lse.data() + first * heads, f32, {count, heads});
    const HipAttnAddSinkLogitsArgs sink_args{sizeof(sink_args), &sinks.tensor, &part.tensor,
                                             &part_lse.tensor};
    status = hip_attn_add_sink_logits({kDLCPU, 0}, &sink_args, nullptr, message, sizeof(message));
  }
  if (status != HIP_ATTN_OK) GGML_ABORT("hip_attn: %s", message);
}

// Why attention stays with ggml, or nullptr. The arguments are those of ggml_flash_attn_ext.
const char* falls_back(const ggml_tensor& q, const ggml_tensor& k, const ggml_tensor& v) {
  for (const ggml_tensor* t : {&k, &v}) {
    const ggml_tensor* cache = t->view_src;
    if (cache == nullptr || cache->op != GGML_OP_NONE || cache->buffer == nullptr)
      return "no cache";
    if (!ggml_backend_buffer_is_host(cache->buffer)) return "the cache is not in host memory";
  }
  if (k.type != GGML_TYPE_F32 && k.type != GGML_TYPE_F16 && k.type != GGML_TYPE_BF16) {
    return "the cache is quantised";
  }
  if (k.type != v.type || k.ne[0] != v.ne[0]) return "K and V differ";
  if (q.type != GGML_TYPE_F32 || q.nb[0] != sizeof(float) || q.nb[3] != q.ne[1] * q.nb[1]) {
    return "queries are not rows of F32";
  }
  if (v.nb[0] != ggml_type_size(v.type)) return "V is transposed";
  return nullptr;
}

// The earliest position that a row at `pos` sees, and the window that the configuration needs.
int64_t first_seen(llama_swa_type type, int64_t n_swa, int64_t pos) {
  if (type == LLAMA_SWA_TYPE_STANDARD) return pos - n_swa + 1;
  if (type == LLAMA_SWA_TYPE_CHUNKED) return pos / n_swa * n_swa;
  return type == LLAMA_SWA_TYPE_SYMMETRIC ? pos - n_swa / 2 : 0;
}
int64_t window_of(llama_swa_type type, int64_t n_swa) {
  if (type == LLAMA_SWA_TYPE_STANDARD) return n_swa;
  return type == LLAMA_SWA_TYPE_SYMMETRIC ? n_swa / 2 + 1 : 0;
}

}  // namespace

// Instead of ggml_flash_attn_ext in a causal layer without bias: [D * Hq, rows]; nullptr: the layer
// is not for hip_attn. n_pos is the ubatch's; swa and n_swa are those of the layer.
ggml_tensor* llama_hip_attn_build(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                                  ggml_tensor* mask, ggml_tensor* sinks, float scale, float softcap,
                                  uint32_t n_pos, llama_swa_type swa, uint32_t n_swa) {
  const char* preset = std::getenv("HIP_ATTN_PRESET");
  if (preset == nullptr || falls_back(*q, *k, *v) != nullptr) return nullptr;
  if (n_pos >= 3) return nullptr;  // M-RoPE, where tokens share positions
  const std::lock_guard<std::mutex> lock(mutex);
  const ggml_tensor* cache = k->view_src;
  const int64_t head_dim = q->ne[0], heads = q->ne[2], rows = q->ne[1] * q->ne[3];
  const int64_t window = window_of(swa, n_swa);
  Kind& kind =
      kinds[{preset, cache->buffer, k->type, cache->ne[1], heads, k->ne[2], head_dim, window}];
  if (kind.config == nullptr) {
    kind.config = config_of(preset, window);
    kind.shape.struct_size = sizeof(kind.shape);
    kind.shape.device = {kDLCPU, 0};
    kind.shape.dtype = dtype_of(GGML_TYPE_F32);
    kind.shape.cache_dtype = dtype_of(k->type);
    kind.shape.max_seq_len = cache->ne[1];
    kind.shape.num_q_heads = heads;
    kind.shape.num_kv_heads = k->ne[2];
    kind.shape.head_dim = head_dim;
    kind.shape.num_threads = std::thread::hardware_concurrency();
  }
  if (kind.shape.total_q < rows) {  // at worst every row is a request
    kind.shape.batch = kind.shape.total_q = rows;
    make_plans(kind);
  }
  if (kind.decode == nullptr) return nullptr;
  Layer& layer = layers[{&kind, cache}];
  if (layer.kind == nullptr && kind.slot_bytes > 0) {
    layer.selections = std::calloc(LLAMA_MAX_SEQ, kind.slot_bytes);
  }
  layer.kind = &kind;
  layer.scale = scale;
  layer.softcap = softcap;
  mask->extra = &pending;
  ggml_tensor* src[] = {q, k, v, mask, sinks};
  ggml_tensor* out = ggml_custom_4d(ctx, GGML_TYPE_F32, head_dim, heads, rows, 1, src,
                                    sinks != nullptr ? 5 : 4, attend, GGML_N_TASKS_MAX, &layer);
  return ggml_reshape_2d(ctx, out, head_dim * heads, rows);
}

// Before a graph runs: the cells of the cache whose mask it is.
void llama_hip_attn_set_input(ggml_tensor* mask, const llama_kv_cache& cache,
                              const llama_ubatch& ubatch, llama_swa_type swa, uint32_t n_swa) {
  if (mask->extra == nullptr) return;
  std::vector<int32_t> key_sequences, key_pages, row_sequences;
  std::vector<int64_t> key_positions, row_positions, row_first;
  uint32_t first_stream = cache.get_n_stream();
  for (uint32_t i = 0; i < ubatch.n_seqs_unq; ++i) {
    first_stream = std::min(first_stream, cache.get_stream(ubatch.seq_id_unq[i]));
  }
  for (uint32_t i = 0; i < ubatch.n_seqs_unq; ++i) {
    const llama_seq_id seq = ubatch.seq_id_unq[i];
    const llama_kv_cells& cells = cache.get_cells(seq);
    const uint32_t first_page = (cache.get_stream(seq) - first_stream) * cache.get_size();
    for (uint32_t cell = 0, end = cells.used_max_p1(); cell < end; ++cell) {
      if (cells.is_empty(cell) || !cells.seq_has(cell, seq)) continue;
      key_sequences.push_back(seq);
      key_positions.push_back(cells.pos_get(cell));
      key_pages.push_back(static_cast<int32_t>(first_page + cell));
    }
  }
  for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
    row_sequences.push_back(ubatch.seq_id[i][0]);  // of the others it is a key, and no row
    row_positions.push_back(ubatch.pos[i]);
    row_first.push_back(first_seen(swa, n_swa, ubatch.pos[i]));
  }
  const std::lock_guard<std::mutex> lock(mutex);
  Cells& cells = caches[&cache];
  if (cells.handle == nullptr) hip_attn_cells_create(&cells.handle, nullptr, 0);
  const char* preset = std::getenv("HIP_ATTN_PRESET");
  HipAttnConfig* config = config_of(preset != nullptr ? preset : "dense", 0);
  cells.requests.struct_size = sizeof(cells.requests);
  HipAttnCellBatch batch{};
  batch.struct_size = sizeof(batch);
  batch.num_keys = static_cast<int64_t>(key_pages.size());
  batch.key_sequences = key_sequences.data();
  batch.key_positions = key_positions.data();
  batch.key_pages = key_pages.data();
  batch.num_rows = ubatch.n_tokens;
  batch.row_sequences = row_sequences.data();
  batch.row_positions = row_positions.data();
  batch.row_first = swa != LLAMA_SWA_TYPE_NONE ? row_first.data() : nullptr;
  batch.window = window_of(swa, n_swa);
  batch.keep_order = 1;
  batch.config = config;
  char message[256];
  if (hip_attn_cells_requests(cells.handle, &batch, &cells.requests, message, sizeof(message)) !=
      HIP_ATTN_OK) {
    GGML_ABORT("hip_attn: %s", message);
  }
  hip_attn_config_destroy(config);
  mask->extra = &cells;
}
