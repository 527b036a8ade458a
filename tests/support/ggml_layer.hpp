/// The second half of docs/guide/ggml.md's adapter: the attention of a layer as nodes of ggml's
/// graph.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
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
  std::vector<float> out;                          // [rows, Hq, D], of rows out of order
  std::vector<float> lse;                          // [rows, Hq], of layers with sink logits
  CellRequests call;                               // of the ubatch, set before its graph runs
  Status status;                                   // what a graph's first error was
};

template <Element T>
Status make_plans(const HipConfig& config, const AttentionShape& shape, LayerKind& kind) {
  Status status = plan_prefill<float, T>(config, shape, kind.prefill);
  if (status.ok()) status = plan_decode<float, T>(config, shape, kind.decode);
  if (!status.ok()) return status;
  kind.workspace.resize(std::max(kind.prefill.workspace_bytes, kind.decode.workspace_bytes));
  kind.lse.resize(shape.total_q * shape.num_q_heads);
  kind.out.resize(kind.lse.size() * shape.head_dim);
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
/// The rows of the call, float [rows, Hq, D], where the queries stand in their order already.
inline std::optional<TensorView<const float, 3>> rows_in_place(const ggml_tensor& q,
                                                               const CellRequests& call) {
  const bool one_stride = q.ne[3] == 1 || q.nb[3] == q.ne[1] * q.nb[1];
  if (!call.in_order || !one_stride) return std::nullopt;
  const auto elements = [](std::size_t bytes) {
    return static_cast<std::int64_t>(bytes / sizeof(float));
  };
  return TensorView<const float, 3>{static_cast<const float*>(q.data),
                                    {q.ne[1] * q.ne[3], q.ne[2], q.ne[0]},
                                    {elements(q.nb[1]), elements(q.nb[2]), 1}};
}

/// Node 1. dst: float [D, Hq, rows], written where the queries are not in place;
/// src[0]: the queries, float [D, tokens of a stream, Hq, streams].
inline void gather_op(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const ggml_tensor& q = *dst->src[0];
  const CellRequests& call = static_cast<Layer*>(userdata)->kind->call;
  if (rows_in_place(q, call)) return;
  for (std::int64_t row = ith; row < std::ssize(call.rows); row += nth) {
    const std::int64_t token = call.rows[row];
    const char* from =
        static_cast<const char*>(q.data) + token % q.ne[1] * q.nb[1] + token / q.ne[1] * q.nb[3];
    for (std::int64_t head = 0; head < q.ne[2]; ++head) {
      std::copy_n(reinterpret_cast<const float*>(from + head * q.nb[2]), q.ne[0],
                  static_cast<float*>(dst->data) + (row * q.ne[2] + head) * q.ne[0]);
    }
  }
}
// [ggml-queries]

// [ggml-outputs]
/// A part of the rows: sink logits, [Hq] where the model has them, are counted in, and rows out of
/// order go to their tokens in dst, float [D, Hq, tokens].
inline Status finish_rows(LayerKind& kind, const TensorView<float, 3>& out, const float* sinks,
                          ggml_tensor& dst, int part, int parts) {
  const auto [rows, heads, head_dim] = out.sizes;
  const std::int64_t first = rows * part / parts;
  const std::int64_t end = rows * (part + 1) / parts;
  Status status;
  if (sinks) {
    AddSinkLogitsArgs<float> args;
    args.sink_logits = {sinks, {heads}};
    args.out = {out.data + first * heads * head_dim, {end - first, heads, head_dim}};
    args.lse = {kind.lse.data() + first * heads, {end - first, heads}};
    status = add_sink_logits(kCpu, args);
  }
  if (kind.call.in_order) return status;  // dst is out
  for (std::int64_t row = first; row < end; ++row) {
    std::copy_n(out.data + row * heads * head_dim, heads * head_dim,
                static_cast<float*>(dst.data) + kind.call.rows[row] * heads * head_dim);
  }
  return status;
}
// [ggml-outputs]

// [ggml-attend]
/// Node 2. dst: float [D, Hq, tokens]; src: the rows of node 1, queries, K, V and, or not, sinks.
template <Element T>
void attend_op(ggml_tensor* dst, int ith, int nth, void* userdata) {
  Layer& layer = *static_cast<Layer*>(userdata);
  LayerKind& kind = *layer.kind;
  const CellRequests& call = kind.call;
  const int parts = std::min(nth, static_cast<int>(kind.teams.size()));
  if (ith >= parts) return;  // more threads than the plan was made for
  const std::array<std::int64_t, 3> rows{dst->ne[2], dst->ne[1], dst->ne[0]};
  const std::int64_t requests = std::ssize(call.seq_lens);
  const float* sinks = dst->src[4] ? static_cast<const float*>(dst->src[4]->data) : nullptr;
  AttentionArgs<float, T> args;
  args.q = rows_in_place(*dst->src[1], call)
               .value_or(TensorView<const float, 3>{static_cast<float*>(dst->src[0]->data), rows});
  args.kv.pages = {cells_of<T>(*dst->src[2]), cells_of<T>(*dst->src[3])};
  args.kv.block_table =
      TensorView<const std::int32_t, 2>(call.block_table.data(), {requests, call.max_seq_len});
  args.seq_lens = {call.seq_lens.data(), {requests}};
  args.cu_seqlens_q = {call.cu_seqlens_q.data(), {requests + 1}};
  args.out = {call.in_order ? static_cast<float*>(dst->data) : kind.out.data(), rows};
  if (sinks) args.lse = TensorView<float, 2>(kind.lse.data(), {rows[0], rows[1]});
  args.scale = layer.scale;
  if (layer.logit_softcap != 0) args.logit_softcap = layer.logit_softcap;
  if (call.decode && !layer.selections.empty()) {
    SelectionCache& cache = args.cache.emplace();
    cache.data = layer.selections.data();
    cache.num_slots = std::ssize(layer.selections) /
                      static_cast<std::int64_t>(kind.decode.selection_cache_slot_bytes);
    cache.slots = TensorView<const std::int32_t, 1>(call.sequences.data(), {requests});
    cache.refresh_from = {call.refresh_from.data(), {requests}};
  }
  ThreadTeam& team = *kind.teams[parts - 1];
  Status status = call.decode ? run_decode(kind.decode, args, kind.workspace, team, ith)
                              : run_prefill(kind.prefill, args, kind.workspace, team, ith);
  if (status.ok()) status = finish_rows(kind, args.out, sinks, *dst, ith, parts);
  if (ith == 0 && kind.status.ok()) kind.status = status;
}
// [ggml-attend]

// [ggml-graph]
template <Element T>
ggml_tensor* build_attention(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                             ggml_tensor* sinks, Layer* layer) {
  const auto node = [&](std::vector<ggml_tensor*> src, ggml_custom_op_t op) {
    return ggml_custom_4d(ctx, GGML_TYPE_F32, q->ne[0], q->ne[2], q->ne[1] * q->ne[3], 1,
                          src.data(), static_cast<int>(src.size()), op, GGML_N_TASKS_MAX, layer);
  };
  std::vector<ggml_tensor*> src{node({q}, gather_op), q, k, v};
  if (sinks) src.push_back(sinks);
  return node(src, attend_op<T>);
}
// [ggml-graph]

}  // namespace hip_attn::test::ggml_adapter
