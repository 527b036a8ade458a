/// How an engine calls hip_attn: plan once per layer, then per batch append, and run.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "attention.hpp"
#include "baseline_selection.hpp"
#include "error.hpp"
#include "hip_attn/hip_attn.hpp"
#include "query_blocks.hpp"

namespace llama {
namespace {

using hip_attn::TensorView;

template <hip_attn::Element T>
class PagedAttention final : public Attention {
 public:
  PagedAttention(const AttentionOptions& options, const LlamaConfig& model, const PagePool& pool,
                 const BatchLimits& limits)
      : options_(options), model_(model), memory_(model, pool) {
    hip_attn::AttentionShape shape;
    shape.batch = limits.sequences;
    shape.max_seq_len = limits.seq_len;
    shape.num_q_heads = model.num_q_heads;
    shape.num_kv_heads = model.num_kv_heads;
    shape.head_dim = model.head_dim;

    std::size_t workspace_bytes = 0;
    for (std::int32_t layer = 0; layer < model.num_layers; ++layer) {
      Layer& state = layers_.emplace_back();
      const bool dense = options.mode == AttentionMode::kDense;
      const hip_attn::HipConfig all = hip_attn::presets::dense();
      shape.total_q = limits.prefill_rows;
      check(hip_attn::plan_prefill<T>(dense ? all : options.config.prefill(layer), shape,
                                      state.prefill));
      shape.total_q = limits.sequences * hip_attn::kMaxDecodeRows;
      check(hip_attn::plan_decode<T>(dense ? all : options.config.decode(layer), shape,
                                     state.decode));
      // Zeroed: every entry is empty until its first refresh.
      state.cache.resize(limits.sequences * state.decode.selection_cache_slot_bytes);
      state.cache_slots = limits.sequences;
      workspace_bytes =
          std::max({workspace_bytes, state.prefill.workspace_bytes, state.decode.workspace_bytes});
    }
    workspace_.resize(workspace_bytes);  // layers run one after the other and share it
  }

  void attend(std::int64_t layer, const Batch& batch, std::span<const float> q,
              std::span<const float> k, std::span<const float> v, std::span<float> out) override {
    const auto start = std::chrono::steady_clock::now();
    append(layer, batch, k, v);

    Layer& state = layers_[layer];
    const bool decode = batch.phase == Phase::kDecode;
    const hip_attn::AttentionPlan& plan = decode ? state.decode : state.prefill;
    const bool sparse = !plan.config.is_dense();
    const bool searched = sparse && options_.mode == AttentionMode::kHip;

    const std::int64_t total_q = batch.total_q();
    convert(q, q_);
    out_.resize(q_.size());
    counters_.assign(plan.config.num_stages() + 2, 0);

    hip_attn::AttentionArgs<T> args;
    args.q = {q_.data(), {total_q, model_.num_q_heads, model_.head_dim}};
    args.out = {out_.data(), args.q.sizes};
    args.kv.pages = memory_.layer(layer);
    args.kv.block_table = {batch.block_table.data(), {batch.size(), batch.max_pages}};
    args.seq_lens = {batch.seq_lens.data(), {batch.size()}};
    args.cu_seqlens_q = {batch.cu_seqlens_q.data(), {batch.size() + 1}};
    args.counters = {counters_.data(), {plan.config.num_stages() + 2}};

    if (sparse && !searched) {
      const hip_attn::BlockSelection given = selection_for(plan);
      fill_baseline_selection(options_.mode, options_.seed, layer, batch, plan.config, given);
      args.selection = given;
    } else if (searched && observer_) {
      args.selection_out = selection_for(plan);
    }
    if (searched && decode) args.cache = selection_cache(batch, state);

    if (decode) {
      check(hip_attn::run_decode<T>(plan, args, workspace_));
    } else {
      check(hip_attn::run_prefill<T>(plan, args, workspace_));
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = hip_attn::to_float(out_[i]);

    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    count(batch, plan.config, elapsed.count());
    if (observer_ && sparse) observer_(layer, batch, plan.config, selection_for(plan));
  }

  [[nodiscard]] std::int64_t prefill_alignment() const override {
    std::int64_t alignment = 1;
    for (const Layer& layer : layers_) {
      alignment = std::lcm(alignment, static_cast<std::int64_t>(layer.prefill.config.block_q));
    }
    return alignment;
  }

  [[nodiscard]] const AttentionStats& stats() const override { return stats_; }

  void observe_selections(SelectionObserver observer) override { observer_ = std::move(observer); }

 private:
  struct Layer {
    hip_attn::AttentionPlan prefill;
    hip_attn::AttentionPlan decode;
    std::vector<std::byte> cache;  // of a hip_attn::SelectionCache
    std::int64_t cache_slots = 0;
  };

  static void convert(std::span<const float> from, std::vector<T>& to) {
    to.resize(from.size());
    std::transform(from.begin(), from.end(), to.begin(), hip_attn::from_float<T>);
  }

  void append(std::int64_t layer, const Batch& batch, std::span<const float> k,
              std::span<const float> v) {
    convert(k, k_);
    convert(v, v_);
    hip_attn::AppendKvArgs<T> args;
    args.k = {k_.data(), {batch.total_q(), model_.num_kv_heads, model_.head_dim}};
    args.v = {v_.data(), args.k.sizes};
    args.slot_mapping = {batch.slot_mapping.data(), {batch.total_q()}};
    args.pages = memory_.layer(layer);
    check(hip_attn::append_kv<T>(hip_attn::kCpu, args));
  }

  /// The selections of the sequences' earlier decode steps, and how much of them to make anew.
  hip_attn::SelectionCache selection_cache(const Batch& batch, Layer& state) {
    refresh_from_.clear();
    for (const std::int64_t step : batch.decode_steps) {
      std::int32_t stage = hip_attn::refresh_from_at(state.decode.config, step);
      if (step < options_.settling_steps) {
        stage = std::min(stage, state.decode.config.num_stages() - 1);
      }
      refresh_from_.push_back(stage);
    }
    hip_attn::SelectionCache cache;
    cache.data = state.cache.data();
    cache.num_slots = state.cache_slots;
    cache.refresh_from = {refresh_from_.data(), {batch.size()}};
    cache.slots = {batch.slots.data(), {batch.size()}};
    return cache;
  }

  /// Memory for the selection of the largest batch of a plan.
  hip_attn::BlockSelection selection_for(const hip_attn::AttentionPlan& plan) {
    const std::int64_t rows = plan.selection_rows;
    const std::int64_t heads = model_.num_kv_heads;
    blocks_.resize(rows * heads * plan.max_selected_blocks);
    block_counts_.resize(rows * heads);
    window_starts_.resize(rows * heads);
    return {TensorView<std::int32_t, 3>(blocks_.data(), {rows, heads, plan.max_selected_blocks}),
            TensorView<std::int32_t, 2>(block_counts_.data(), {rows, heads}),
            TensorView<std::int32_t, 2>(window_starts_.data(), {rows, heads})};
  }

  void count(const Batch& batch, const hip_attn::HipConfig& config, double seconds) {
    stats_.seconds += seconds;
    for_each_query_block(batch, config, [&](auto...) { stats_.units += model_.num_kv_heads; });
    stats_.rows += batch.total_q() * model_.num_kv_heads;
    for (int s = 0; s < config.num_stages(); ++s) stats_.search_keys_read += counters_[s];
    stats_.attention_keys_read += counters_[config.num_stages()];
    stats_.keys_attended += counters_[config.num_stages() + 1];
  }

  AttentionOptions options_;
  LlamaConfig model_;
  KvMemory<T> memory_;
  std::vector<Layer> layers_;
  std::vector<std::byte> workspace_;
  std::vector<T> q_, k_, v_, out_;
  std::vector<std::int32_t> refresh_from_;
  std::vector<std::int32_t> blocks_, block_counts_, window_starts_;
  std::vector<std::int64_t> counters_;
  AttentionStats stats_;
  SelectionObserver observer_;
};

}  // namespace

const char* to_string(AttentionMode mode) noexcept {
  switch (mode) {
    case AttentionMode::kHip:
      return "hip";
    case AttentionMode::kDense:
      return "dense";
    case AttentionMode::kWindow:
      return "window";
    case AttentionMode::kRandom:
      return "random";
  }
  return "unknown";
}

std::unique_ptr<Attention> make_paged_attention(const AttentionOptions& options,
                                                const LlamaConfig& model, const PagePool& pool,
                                                const BatchLimits& limits) {
  using hip_attn::ElementType;
  switch (options.kv_type) {
    case ElementType::kFloat16:
      return std::make_unique<PagedAttention<hip_attn::float16>>(options, model, pool, limits);
    case ElementType::kBFloat16:
      return std::make_unique<PagedAttention<hip_attn::bfloat16>>(options, model, pool, limits);
    case ElementType::kFloat32:
      break;
  }
  return std::make_unique<PagedAttention<float>>(options, model, pool, limits);
}

}  // namespace llama
