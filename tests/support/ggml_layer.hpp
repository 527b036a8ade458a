/// The second half of docs/guide/ggml.md's adapter: the attention of a layer as nodes of ggml's
/// graph.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ggml_requests.hpp"
#include "ggml_stand_in.hpp"
#include "hip_attn/hip_attn.hpp"

namespace hip_attn::test::ggml_adapter {

// [ggml-falls-back]
/// Of the model and the batch, what a layer's tensors do not show.
struct LayerTraits {
  bool causal = true;         // cparams.causal_attn
  bool has_bias = false;      // kq_b is given
  float max_bias = 0;         // hparams.f_max_alibi_bias
  std::int64_t n_kv_max = 0;  // a mask that picks keys
  bool has_window = false;    // hparams.is_swa(il)
  bool is_2d = false;         // ubatch.is_pos_2d()
  bool on_host = true;        // ggml_backend_buffer_is_host of K's and V's buffers
};

/// Why attention stays with ggml, or nullptr. q, k and v are the arguments of ggml_flash_attn_ext.
inline const char* falls_back(const ggml_tensor& q, const ggml_tensor& k, const ggml_tensor& v,
                              const LayerTraits& traits) {
  if (!traits.causal) return "attention is not causal";
  if (traits.has_bias || traits.max_bias > 0) return "logits have a bias";
  if (traits.n_kv_max > 0) return "the mask picks keys";
  if (traits.has_window && traits.is_2d) return "a window over positions that images share";
  if (!traits.on_host) return "the cache is not in host memory";
  if (q.type != GGML_TYPE_F32) return "queries are not F32";
  if (k.type != GGML_TYPE_F32 && k.type != GGML_TYPE_F16 && k.type != GGML_TYPE_BF16) {
    return "the cache is quantised";
  }
  if (k.type != v.type) return "K and V differ in type";
  if (k.ne[0] != v.ne[0]) return "K and V differ in head dim";
  const std::size_t element = ggml_type_size(k.type);
  if (q.nb[0] != sizeof(float) || k.nb[0] != element || v.nb[0] != element) {
    return "a row is not contiguous: V is transposed without flash attention";
  }
  return nullptr;
}
// [ggml-falls-back]

// [ggml-plans]
/// What layers of one configuration over one cache have in common.
struct LayerKind {
  AttentionPlan prefill;
  AttentionPlan decode;
  std::vector<std::byte> workspace;
  std::vector<std::unique_ptr<ThreadTeam>> teams;  // of 1, 2, ... threads
  std::vector<float> lse;                          // [rows, Hq]
  Call call;                                       // of the ubatch, set before its graph runs
  Status status;                                   // what a graph's first error was
};

template <Element T>
Status make_plans(const HipConfig& config, const AttentionShape& shape, LayerKind& kind) {
  Status status = plan_prefill<T>(config, shape, kind.prefill);
  if (status.ok()) status = plan_decode<T>(config, shape, kind.decode);
  if (!status.ok()) return status;
  kind.workspace.resize(std::max(kind.prefill.workspace_bytes, kind.decode.workspace_bytes));
  kind.lse.resize(shape.total_q * shape.num_q_heads);
  for (int n = 1; n <= kind.prefill.num_threads; ++n) {
    kind.teams.push_back(std::make_unique<ThreadTeam>(n));
  }
  return status;
}

/// One layer: the userdata of its nodes.
struct Layer {
  LayerKind* kind;
  float scale;
  float logit_softcap;                // 0: none
  std::vector<std::byte> selections;  // empty, or zeroed: selection_cache_slot_bytes per sequence
};
// [ggml-plans]

// [ggml-pages]
/// K or V as pages of one token: the cells of all streams, one after the other.
template <Element T>
TensorView<const T, 4> cells_of(const ggml_tensor& t) {
  const auto elements = [](std::size_t bytes) {
    return static_cast<std::int64_t>(bytes / sizeof(T));
  };
  const std::int64_t cell = elements(t.nb[1]);
  const std::int64_t cells = (t.ne[3] - 1) * (elements(t.nb[3]) / cell) + t.ne[1];
  return {static_cast<const T*>(t.data),
          {cells, 1, t.ne[2], t.ne[0]},
          {cell, cell, elements(t.nb[2]), 1}};
}
// [ggml-pages]

// [ggml-queries]
/// Node 1. dst: T [D, Hq, rows]; src[0]: the queries, float [D, tokens of a stream, Hq, streams].
template <Element T>
void queries_op(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const ggml_tensor& q = *dst->src[0];
  const std::vector<std::int32_t>& tokens = static_cast<Layer*>(userdata)->kind->call.tokens;
  for (std::int64_t row = ith; row < std::ssize(tokens); row += nth) {
    const char* token = static_cast<const char*>(q.data) + tokens[row] % q.ne[1] * q.nb[1] +
                        tokens[row] / q.ne[1] * q.nb[3];
    for (std::int64_t head = 0; head < q.ne[2]; ++head) {
      const auto* from = reinterpret_cast<const float*>(token + head * q.nb[2]);
      std::transform(from, from + q.ne[0],
                     static_cast<T*>(dst->data) + (row * q.ne[2] + head) * q.ne[0], from_float<T>);
    }
  }
}
// [ggml-queries]

// [ggml-attend]
/// Node 2. dst: T [D, Hq, rows]; src: the rows of node 1, K, V.
template <Element T>
void attend_op(ggml_tensor* dst, int ith, int nth, void* userdata) {
  Layer& layer = *static_cast<Layer*>(userdata);
  LayerKind& kind = *layer.kind;
  const Call& call = kind.call;
  const int parts = std::min(nth, static_cast<int>(kind.teams.size()));
  if (ith >= parts) return;  // more threads than the plan was made for
  const std::array<std::int64_t, 3> rows{dst->ne[2], dst->ne[1], dst->ne[0]};
  const std::int64_t requests = std::ssize(call.seq_lens);
  AttentionArgs<T> args;
  args.q = {static_cast<const T*>(dst->src[0]->data), rows};
  args.kv.pages = {cells_of<T>(*dst->src[1]), cells_of<T>(*dst->src[2])};
  args.kv.block_table =
      TensorView<const std::int32_t, 2>(call.block_table.data(), {requests, call.max_len});
  args.seq_lens = {call.seq_lens.data(), {requests}};
  args.cu_seqlens_q = {call.cu_seqlens_q.data(), {requests + 1}};
  args.out = {static_cast<T*>(dst->data), rows};
  args.lse = TensorView<float, 2>(kind.lse.data(), {rows[0], rows[1]});
  args.scale = layer.scale;
  if (layer.logit_softcap != 0) args.logit_softcap = layer.logit_softcap;
  if (call.decode && !layer.selections.empty()) {
    SelectionCache& cache = args.cache.emplace();
    cache.data = layer.selections.data();
    cache.num_slots = std::ssize(layer.selections) /
                      static_cast<std::int64_t>(kind.decode.selection_cache_slot_bytes);
    cache.slots = TensorView<const std::int32_t, 1>(call.slots.data(), {requests});
    cache.refresh_from = {call.refresh_from.data(), {requests}};
  }
  ThreadTeam& team = *kind.teams[parts - 1];
  const Status status = call.decode ? run_decode(kind.decode, args, kind.workspace, team, ith)
                                    : run_prefill(kind.prefill, args, kind.workspace, team, ith);
  if (ith == 0 && kind.status.ok()) kind.status = status;
}
// [ggml-attend]

// [ggml-sink]
/// What a sink logit leaves of a row that attended without it.
inline float weight_beside_sink(float sink, float lse) {
  return 1.f / (1.f + std::exp(sink - lse));
}
// [ggml-sink]

// [ggml-outputs]
/// Node 3. dst: float [D, Hq, tokens]; src: the rows of node 2 and, or not, sink logits [Hq].
template <Element T>
void outputs_op(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const LayerKind& kind = *static_cast<Layer*>(userdata)->kind;
  const std::int64_t head_dim = dst->ne[0];
  const std::int64_t heads = dst->ne[1];
  const auto* rows = static_cast<const T*>(dst->src[0]->data);
  const auto* sinks = dst->src[1] ? static_cast<const float*>(dst->src[1]->data) : nullptr;
  for (std::int64_t row = ith; row < std::ssize(kind.call.tokens); row += nth) {
    for (std::int64_t head = 0; head < heads; ++head) {
      const float weight =
          sinks ? weight_beside_sink(sinks[head], kind.lse[row * heads + head]) : 1.f;
      const T* from = rows + (row * heads + head) * head_dim;
      std::transform(
          from, from + head_dim,
          static_cast<float*>(dst->data) + (kind.call.tokens[row] * heads + head) * head_dim,
          [weight](T x) { return weight * to_float(x); });
    }
  }
}
// [ggml-outputs]

// [ggml-graph]
template <Element T>
ggml_tensor* build_attention(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                             ggml_tensor* sinks, Layer* layer) {
  const std::int64_t tokens = q->ne[1] * q->ne[3];
  const auto node = [&](ggml_type type, std::vector<ggml_tensor*> src, ggml_custom_op_t op) {
    return ggml_custom_4d(ctx, type, q->ne[0], q->ne[2], tokens, 1, src.data(),
                          static_cast<int>(src.size()), op, GGML_N_TASKS_MAX, layer);
  };
  ggml_tensor* rows = node(k->type, {q}, queries_op<T>);
  ggml_tensor* attended = node(k->type, {rows, k, v}, attend_op<T>);
  if (!sinks) return node(GGML_TYPE_F32, {attended}, outputs_op<T>);
  return node(GGML_TYPE_F32, {attended, sinks}, outputs_op<T>);
}
// [ggml-graph]

}  // namespace hip_attn::test::ggml_adapter
