/// Some rows of a prefill beside what every key would have been to them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "attention.hpp"
#include "batch.hpp"
#include "buffer.hpp"
#include "error.hpp"
#include "hip_attn/decode.hpp"
#include "llama_config.hpp"

namespace llama {

struct SampledRow {
  std::int64_t sequence;  ///< its place in the batch
  std::int64_t row;       ///< of the batch
  std::int64_t position;
};

template <hip_attn::Element T>
class RowSampler {
 public:
  RowSampler() = default;
  RowSampler(std::vector<std::int64_t> positions, SampleObserver observer, const LlamaConfig& model,
             const BatchLimits& limits, Backend& backend)
      : positions_(std::move(positions)),
        observer_(std::move(observer)),
        backend_(&backend),
        lse_(backend, limits.rows() * model.num_q_heads),
        dense_lse_(backend, model.num_q_heads),
        dense_out_(backend, model.q_size()),
        seq_len_(backend, 1),
        cu_seqlens_q_(backend, 2) {
    hip_attn::AttentionShape shape;
    shape.device = backend.device();
    shape.max_seq_len = limits.seq_len;
    shape.num_q_heads = model.num_q_heads;
    shape.num_kv_heads = model.num_kv_heads;
    shape.head_dim = model.head_dim;
    check(hip_attn::plan_decode<T>(hip_attn::presets::dense(), shape, dense_));
    workspace_ = Buffer<std::byte>(backend, static_cast<std::int64_t>(dense_.workspace_bytes));
    cu_seqlens_q_.upload(std::vector<std::int32_t>{0, 1});
  }

  /// The rows of a prefill at the positions.
  [[nodiscard]] std::vector<SampledRow> rows_of(const Batch& batch) const {
    std::vector<SampledRow> rows;
    for (std::int64_t b = 0; b < batch.size(); ++b) {
      const std::int64_t first = batch.first_position(b);
      auto position = std::lower_bound(positions_.begin(), positions_.end(), first);
      for (; position != positions_.end() && *position < batch.seq_lens[b]; ++position) {
        rows.push_back({b, batch.cu_seqlens_q[b] + *position - first, *position});
      }
    }
    return rows;
  }

  /// Where a call of so many rows leaves its log-sum-exp.
  [[nodiscard]] hip_attn::TensorView<float, 2> lse(std::int64_t rows) const {
    return {lse_.data(), {rows, dense_.shape.num_q_heads}};
  }

  /// Of a call that has run with lse(), and whose selection is on the host.
  void sample(std::int64_t layer, const Batch& batch, const SampledRow& row,
              const hip_attn::AttentionPlan& plan, const hip_attn::AttentionArgs<T>& call,
              const hip_attn::ConstBlockSelection& selection) {
    const std::int64_t heads = dense_.shape.num_q_heads;
    const std::int64_t q_size = heads * dense_.shape.head_dim;
    AttentionSample sample{layer, row.position, {}, {}, attend_to_all(call, row), {}};
    std::vector<T> q(q_size);
    backend_->download(q.data(), call.q.data + row.row * q_size, q_size * sizeof(T));
    std::transform(q.begin(), q.end(), std::back_inserter(sample.q),
                   [](T value) { return hip_attn::to_float(value); });
    sample.lse = lse_.download(row.row * heads, heads);
    for (std::int64_t head = 0; head < dense_.shape.num_kv_heads; ++head) {
      sample.attended.push_back(attended(layer, head, batch, row, plan.config, selection));
    }
    observer_(std::move(sample));
  }

 private:
  /// The log-sum-exp of one row over all keys up to itself.
  std::vector<float> attend_to_all(const hip_attn::AttentionArgs<T>& call, const SampledRow& row) {
    const std::int64_t heads = dense_.shape.num_q_heads;
    const std::int64_t head_dim = dense_.shape.head_dim;
    seq_len_.upload(std::vector<std::int32_t>{static_cast<std::int32_t>(row.position + 1)});
    const auto& table = *call.kv.block_table;
    hip_attn::AttentionArgs<T> args;
    args.q = {call.q.data + row.row * heads * head_dim, {1, heads, head_dim}};
    args.out = {dense_out_.data(), {1, heads, head_dim}};
    args.lse = {dense_lse_.data(), {1, heads}};
    args.kv.pages = call.kv.pages;
    args.kv.block_table = {
        table.data + row.sequence * table.strides[0], {1, table.sizes[1]}, table.strides};
    args.seq_lens = {seq_len_.data(), {1}};
    args.cu_seqlens_q = {cu_seqlens_q_.data(), {2}};
    args.scale = call.scale;
    args.logit_softcap = call.logit_softcap;
    const hip_attn::Workspace workspace{workspace_.data(),
                                        static_cast<std::size_t>(workspace_.size())};
    check(hip_attn::run_decode<T>(dense_, args, workspace, backend_->stream()));
    return dense_lse_.download();
  }

  static SelectionEntry attended(std::int64_t layer, std::int64_t head, const Batch& batch,
                                 const SampledRow& row, const hip_attn::HipConfig& config,
                                 const hip_attn::ConstBlockSelection& selection) {
    SelectionEntry entry{layer,
                         head,
                         row.sequence,
                         row.position,
                         row.position + 1,
                         config.sink,
                         row.position,
                         config.block_k(),
                         {}};
    if (config.is_window_only()) {
      entry.window_start = std::max(config.sink, row.position + 1 - config.window);
      return entry;
    }
    const std::int64_t first_block = batch.first_position(row.sequence) / config.block_q;
    const std::int64_t of_unit =
        hip_attn::selection_row(batch.cu_seqlens_q[row.sequence], row.sequence,
                                row.position / config.block_q - first_block, config.block_q);
    const std::int32_t* blocks = &selection.blocks(of_unit, head, 0);
    entry.blocks.assign(blocks, blocks + selection.counts(of_unit, head));
    entry.window_start = selection.window_start(of_unit, head);
    return entry;
  }

  std::vector<std::int64_t> positions_;
  SampleObserver observer_;
  Backend* backend_ = nullptr;
  hip_attn::AttentionPlan dense_;
  Buffer<std::byte> workspace_;
  Buffer<float> lse_;
  Buffer<float> dense_lse_;
  Buffer<T> dense_out_;
  Buffer<std::int32_t> seq_len_;
  Buffer<std::int32_t> cu_seqlens_q_;
};

}  // namespace llama
