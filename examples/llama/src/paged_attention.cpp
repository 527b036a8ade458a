/// How an engine calls hip_attn: plan once per layer, then per batch append, and run.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "attention.hpp"
#include "baseline_selection.hpp"
#include "batch_arrays.hpp"
#include "error.hpp"
#include "hip_attn/hip_attn.hpp"
#include "landmark_memory.hpp"
#include "query_blocks.hpp"
#include "row_sampler.hpp"
#include "selection_buffers.hpp"
#include "store_memory.hpp"

namespace llama {
namespace {

/// Chunk sizes of the landmarks that a layer's searches read, in prefill or in decode, ascending.
/// The configurations are valid.
std::vector<std::int64_t> landmark_chunks_of(const AttentionOptions& options, std::int64_t layer) {
  std::set<std::int64_t> chunks;
  if (options.mode == AttentionMode::kHip) {
    for (const hip_attn::HipConfig* config :
         {&options.config.prefill(layer), &options.config.decode(layer)}) {
      const std::vector<std::int64_t> sizes = hip_attn::landmark_chunk_sizes(*config);
      chunks.insert(sizes.begin(), sizes.end());
    }
  }
  if (chunks.size() > std::size_t{hip_attn::kMaxLandmarkLevels}) {
    throw Error(ErrorCode::kAttention,
                fmt::format("layer {} reads landmarks of {} chunk sizes; at most {} are kept",
                            layer, chunks.size(), hip_attn::kMaxLandmarkLevels));
  }
  return {chunks.begin(), chunks.end()};
}

template <hip_attn::Element T>
class PagedAttention final : public Attention {
 public:
  PagedAttention(const AttentionOptions& options, const LlamaConfig& model, const PagePool& pool,
                 const BatchLimits& limits, Backend& backend)
      : options_(options),
        model_(model),
        backend_(backend),
        memory_(model, pool, options.kv_budget.has_value(), backend),
        num_pages_(pool.num_pages()),
        limits_(limits),
        max_sequences_(limits.sequences),
        layers_(plan_layers(options, model, pool, limits, backend)),
        inputs_(limits, pool.page_size(), landmark_chunks(layers_), backend) {
    allocate();
    if (options.kv_budget) add_stores(pool);
  }

  void prepare(const Batch& batch) override {
    backend_.meet();
    inputs_.load(batch);
    if (!stores_.empty()) stores_.bind_new(batch, inputs_, num_pages_, backend_.stream());
    if (batch.phase == Phase::kDecode) load_refresh_from(batch);
    for (const Layer& layer : layers_) {
      for_each_query_block(batch, layer.of(batch.phase).plan.config,
                           [&](auto...) { stats_.units += model_.num_kv_heads; });
      stats_.rows += batch.total_q() * model_.num_kv_heads;
    }
  }

  void attend(std::int64_t layer, const Batch& batch, const Tensor& q, const Tensor& k,
              const Tensor& v, const Tensor& out) override {
    const bool decode = batch.phase == Phase::kDecode;
    const Call& call = layers_[layer].of(batch.phase);
    const hip_attn::AttentionPlan& plan = call.plan;
    // Where nothing is selected, every mode is the configuration itself.
    const bool selected = selects(plan.config);
    const bool searched = searches(plan.config);

    if (input_observer_) {
      backend_.begin(Part::kOther);
      input_observer_(layer, batch, q, k);
    }
    if (selected && !searched) {
      backend_.begin(Part::kOther);
      fill_baseline_selection(options_.mode, options_.seed, layer, batch, plan,
                              selection_.on_host(plan));
      selection_.upload();
    }
    backend_.begin(decode ? Part::kDecodeAttention : Part::kPrefillAttention);
    append(layer, k, v);

    hip_attn::AttentionArgs<T> args;
    args.q = {in_kv_type(q, q_), {q.rows, model_.num_q_heads, model_.head_dim}};
    const bool direct = out.type == hip_attn::kElementType<T>;
    if (!direct) out_.resize(out.size());
    args.out = {direct ? out.as<T>() : out_.data(), args.q.sizes};
    args.kv.pages = memory_.layer(layer);
    args.kv.block_table = inputs_.block_table();
    args.seq_lens = inputs_.seq_lens();
    args.cu_seqlens_q = inputs_.cu_seqlens_q();
    args.counters = {counters_.data() + call.first_counter, {num_counters(plan)}};

    const std::vector<SampledRow> sampled =
        decode || plan.config.is_dense() ? std::vector<SampledRow>() : sampler_.rows_of(batch);
    if (!sampled.empty()) args.lse = sampler_.lse(q.rows);
    const bool observed = selected && (observer_ || !sampled.empty());
    if (selected && !searched) {
      args.selection = selection_.on_device(plan);
    } else if (searched && observed) {
      args.selection_out = selection_.on_device(plan);
    }
    if (!stores_.empty()) args.store = stores_.store(layer, inputs_);
    if (searched && decode) args.cache = selection_cache(layer);
    if (searched && plan.config.uses_landmarks()) args.landmarks = landmarks(layer);

    if (decode) {
      check(hip_attn::run_decode<T>(plan, args, workspace(), backend_.stream()));
    } else {
      check(hip_attn::run_prefill<T>(plan, args, workspace(), backend_.stream()));
    }
    if (!direct) {
      std::transform(out_.begin(), out_.end(), out.as<float>(),
                     [](T value) { return hip_attn::to_float(value); });
    }
    if (observed || !sampled.empty()) {
      backend_.begin(Part::kOther);
      if (searched) selection_.download();
      const hip_attn::BlockSelection selection = selection_.on_host(plan);
      if (observer_ && selected) observer_(layer, batch, plan.config, selection);
      for (const SampledRow& row : sampled)
        sampler_.sample(layer, batch, row, plan, args, selection);
    }
  }

  /// What the searches of a decode step found comes over the link while its token is drawn.
  void finish(const Batch& batch) override {
    if (stores_.empty() || batch.phase != Phase::kDecode) return;
    backend_.run_beside([this](hip_attn::Stream stream) {
      for (std::int64_t layer = 0; layer < model_.num_layers; ++layer) {
        if (searches(layers_[layer].decode.plan.config)) make_hot(layer, stream);
      }
    });
  }

  [[nodiscard]] bool recordable() const override {
    const bool baseline =
        options_.mode == AttentionMode::kWindow || options_.mode == AttentionMode::kRandom;
    return !baseline && !observer_ && !input_observer_;
  }

  [[nodiscard]] std::int64_t prefill_alignment() const override {
    std::int64_t alignment = 1;
    for (const Layer& layer : layers_) {
      alignment = std::lcm(alignment, static_cast<std::int64_t>(layer.prefill.plan.config.block_q));
    }
    return alignment;
  }

  [[nodiscard]] AttentionStats stats() const override {
    AttentionStats stats = stats_;
    const std::vector<std::int64_t> counters = counters_.download();
    for (const Layer& layer : layers_) {
      for (const Call* call : {&layer.prefill, &layer.decode}) {
        const std::int64_t* counted = counters.data() + call->first_counter;
        const int stages = call->plan.config.num_stages();
        for (int stage = 0; stage < stages; ++stage) {
          // A landmark is two rows of the size of a key.
          const bool landmark =
              call->plan.config.stage(stage).rule == hip_attn::ScanRule::kLandmark;
          stats.search_keys_read += counted[stage] * (landmark ? 2 : 1);
        }
        stats.attention_keys_read += counted[stages];
        stats.keys_attended += counted[stages + 1];
      }
    }
    return stats;
  }

  [[nodiscard]] std::optional<hip_attn::KvStoreCounters> store_counters() const override {
    if (stores_.empty()) return std::nullopt;
    backend_.meet();
    return stores_.counters(backend_.stream());
  }

  void observe_selections(SelectionObserver observer) override { observer_ = std::move(observer); }

  void sample_rows(std::vector<std::int64_t> positions, SampleObserver observer) override {
    sampler_ = RowSampler<T>(std::move(positions), std::move(observer), model_, limits_, backend_);
  }

  [[nodiscard]] std::vector<float> keys(std::int64_t layer, const Sequence& sequence) override {
    return memory_.keys(layer, sequence);
  }

  void observe_inputs(InputObserver observer) override { input_observer_ = std::move(observer); }

  [[nodiscard]] CachedSearch cached_search(std::int64_t layer, std::int32_t slot) const override {
    if (options_.mode != AttentionMode::kHip) return {};
    const hip_attn::AttentionPlan& plan = layers_[layer].decode.plan;
    const auto bytes = static_cast<std::int64_t>(plan.selection_cache_slot_bytes);
    const std::vector<std::byte> entries = layers_[layer].cache.download(slot * bytes, bytes);
    CachedSearch cached{hip_attn::make_search_plan(plan.config, plan.shape.max_seq_len), {}};
    cached.words.resize(entries.size() / sizeof(std::int32_t));
    std::memcpy(cached.words.data(), entries.data(), entries.size());
    return cached;
  }

 private:
  struct Call {
    hip_attn::AttentionPlan plan;
    std::int64_t first_counter = 0;
  };
  struct Layer {
    Call prefill;
    Call decode;
    LandmarkMemory<T> landmarks;
    Buffer<std::byte> cache;  // of a hip_attn::SelectionCache

    [[nodiscard]] const Call& of(Phase phase) const {
      return phase == Phase::kDecode ? decode : prefill;
    }
  };

  static std::vector<Layer> plan_layers(const AttentionOptions& options, const LlamaConfig& model,
                                        const PagePool& pool, const BatchLimits& limits,
                                        Backend& backend) {
    hip_attn::AttentionShape shape;
    shape.device = backend.device();
    shape.batch = limits.sequences;
    shape.max_seq_len = limits.seq_len;
    shape.num_q_heads = model.num_q_heads;
    shape.num_kv_heads = model.num_kv_heads;
    shape.head_dim = model.head_dim;
    if (options.kv_budget) {
      shape.staging_bytes = static_cast<std::size_t>(*options.kv_budget / model.num_layers);
    }

    std::vector<Layer> layers;
    for (std::int32_t layer = 0; layer < model.num_layers; ++layer) {
      Layer& state = layers.emplace_back();
      const bool dense = options.mode == AttentionMode::kDense;
      const hip_attn::HipConfig all = hip_attn::presets::dense();
      shape.total_q = limits.prefill_rows;
      check(hip_attn::plan_prefill<T>(dense ? all : options.config.prefill(layer), shape,
                                      state.prefill.plan));
      // A GPU's plan attends to short positions densely. Here every device is to select what the
      // configuration says: the tables and pictures show that.
      state.prefill.plan.dense_until = options.config.prefill_dense_until;
      shape.total_q = limits.sequences * hip_attn::kMaxDecodeRows;
      check(hip_attn::plan_decode<T>(dense ? all : options.config.decode(layer), shape,
                                     state.decode.plan));
      state.landmarks = LandmarkMemory<T>(landmark_chunks_of(options, layer),
                                          options.landmark_spread, model, pool, backend);
    }
    return layers;
  }

  /// Those of any layer, each once.
  static std::vector<std::int64_t> landmark_chunks(const std::vector<Layer>& layers) {
    std::set<std::int64_t> chunks;
    for (const Layer& layer : layers) {
      const std::vector<std::int64_t> sizes = layer.landmarks.chunk_sizes();
      chunks.insert(sizes.begin(), sizes.end());
    }
    return {chunks.begin(), chunks.end()};
  }

  static std::int64_t num_counters(const hip_attn::AttentionPlan& plan) {
    return plan.config.num_stages() + 2;
  }

  /// What the plans ask for, once all are made.
  void allocate() {
    std::size_t workspace_bytes = 0;
    std::int64_t counters = 0;
    std::vector<const hip_attn::AttentionPlan*> plans;
    for (Layer& layer : layers_) {
      for (Call* call : {&layer.prefill, &layer.decode}) {
        plans.push_back(&call->plan);
        workspace_bytes = std::max(workspace_bytes, call->plan.workspace_bytes);
        call->first_counter = counters;
        counters += num_counters(call->plan);
      }
      // Zeroed: every entry is empty until its first refresh.
      const auto slot_bytes =
          static_cast<std::int64_t>(layer.decode.plan.selection_cache_slot_bytes);
      layer.cache = Buffer<std::byte>(backend_, max_sequences_ * slot_bytes);
    }
    // Layers run one after the other and share these.
    workspace_ = Buffer<std::byte>(backend_, static_cast<std::int64_t>(workspace_bytes));
    selection_ = SelectionBuffers(plans, backend_);
    counters_ = Buffer<std::int64_t>(backend_, counters);
    refresh_from_ = Buffer<std::int32_t>(backend_, model_.num_layers * max_sequences_);
  }

  void add_stores(const PagePool& pool) {
    if (pool.page_size() != hip_attn::kKvBlockTokens) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("pages of {} tokens; a KV cache in host memory has pages of {}",
                              pool.page_size(), hip_attn::kKvBlockTokens));
    }
    stores_ = StoreMemory(max_sequences_, backend_);
    const auto budget = static_cast<std::size_t>(*options_.kv_budget / model_.num_layers);
    for (const Layer& layer : layers_) stores_.add_layer(layer.decode.plan, budget, backend_);
  }

  [[nodiscard]] hip_attn::Workspace workspace() const {
    return {workspace_.data(), static_cast<std::size_t>(workspace_.size())};
  }

  /// The values themselves where activations have the type of the cache. Others are those of the
  /// CPU, float32, and rounded into `rounded`.
  static const T* in_kv_type(const Tensor& x, std::vector<T>& rounded) {
    if (x.type == hip_attn::kElementType<T>) return x.as<T>();
    rounded.resize(x.size());
    std::transform(x.as<float>(), x.as<float>() + x.size(), rounded.begin(),
                   hip_attn::from_float<T>);
    return rounded.data();
  }

  void append(std::int64_t layer, const Tensor& k, const Tensor& v) {
    hip_attn::AppendKvArgs<T> args;
    args.k = {in_kv_type(k, k_), {k.rows, model_.num_kv_heads, model_.head_dim}};
    args.v = {in_kv_type(v, v_), args.k.sizes};
    args.slot_mapping = inputs_.slot_mapping();
    args.pages = memory_.layer(layer);
    if (!layers_[layer].landmarks.empty()) {
      args.landmarks = {landmarks(layer), inputs_.block_table(), inputs_.seq_lens(),
                        inputs_.cu_seqlens_q()};
    }
    if (!stores_.empty()) {
      args.store = {stores_.store(layer, inputs_), inputs_.block_table(), inputs_.seq_lens(),
                    inputs_.cu_seqlens_q()};
    }
    check(hip_attn::append_kv<T>(backend_.device(), args, backend_.stream()));
  }

  [[nodiscard]] static bool selects(const hip_attn::HipConfig& config) {
    return !config.is_dense() && !config.is_window_only();
  }
  [[nodiscard]] bool searches(const hip_attn::HipConfig& config) const {
    return options_.mode == AttentionMode::kHip && selects(config);
  }

  /// What the search of a decode step found.
  void make_hot(std::int64_t layer, hip_attn::Stream stream) {
    check(hip_attn::admit_kv_store<T>(
        {stores_.store(layer, inputs_), memory_.layer(layer), inputs_.block_table(),
         inputs_.seq_lens(), selection_cache(layer)},
        stream));
  }

  /// With the tables of the batch.
  [[nodiscard]] hip_attn::Landmarks<T> landmarks(std::int64_t layer) const {
    return layers_[layer].landmarks.landmarks(
        [this](std::int64_t chunk_size) { return inputs_.landmark_table(chunk_size); });
  }

  /// How much of the selections of each sequence's earlier decode steps to make anew.
  void load_refresh_from(const Batch& batch) {
    std::vector<std::int32_t> refresh_from(refresh_from_.size());
    for (std::int64_t layer = 0; layer < model_.num_layers; ++layer) {
      const hip_attn::HipConfig& config = layers_[layer].decode.plan.config;
      for (std::int64_t b = 0; b < batch.size(); ++b) {
        const std::int64_t step = batch.decode_steps[b];
        refresh_from[layer * max_sequences_ + b] =
            stages_of(step, step + lead_of(layer, config), config);
      }
    }
    refresh_from_.upload(refresh_from);
  }

  /// SelectionCache::refresh_from of a sequence's decode step, which is number `of_layer` in the
  /// layer's cycle of refreshes.
  [[nodiscard]] std::int32_t stages_of(std::int64_t step, std::int64_t of_layer,
                                       const hip_attn::HipConfig& config) const {
    const std::int32_t due = hip_attn::refresh_from_at(config, of_layer);
    if (step < options_.settling_steps) {
      return std::min(due, std::max(config.num_stages() - 1, 0));  // dense has no stages
    }
    if (!options_.search_ahead) return due;
    const std::int32_t ahead = hip_attn::refresh_ahead_at(config, of_layer);
    // The last step of the settling has not searched for this one.
    return step > options_.settling_steps || ahead < 0 ? ahead : due;
  }

  /// Steps by which a layer's cycle of refreshes is ahead of the first layer's.
  [[nodiscard]] std::int64_t lead_of(std::int64_t layer, const hip_attn::HipConfig& config) const {
    if (!options_.stagger_refresh || config.refresh_interval.empty()) return 0;
    return layer * config.refresh_interval.front() / model_.num_layers;
  }

  [[nodiscard]] hip_attn::SelectionCache selection_cache(std::int64_t layer) const {
    hip_attn::SelectionCache cache;
    cache.data = layers_[layer].cache.data();
    cache.num_slots = max_sequences_;
    cache.refresh_from = {refresh_from_.data() + layer * max_sequences_, inputs_.slots().sizes};
    cache.slots = inputs_.slots();
    return cache;
  }

  AttentionOptions options_;
  LlamaConfig model_;
  Backend& backend_;
  KvMemory<T> memory_;
  std::int64_t num_pages_;
  BatchLimits limits_;
  std::int64_t max_sequences_;
  std::vector<Layer> layers_;
  BatchArrays inputs_;
  Buffer<std::byte> workspace_;
  SelectionBuffers selection_;
  Buffer<std::int64_t> counters_;      // of every call, summed over all batches
  Buffer<std::int32_t> refresh_from_;  // [num_layers, max_sequences]
  std::vector<T> q_, k_, v_, out_;     // on the CPU, where it has another type than activations
  AttentionStats stats_;               // what needs no counters
  StoreMemory stores_;                 // empty: the cache is where activations are
  SelectionObserver observer_;
  RowSampler<T> sampler_;  // of no rows, until it is asked for
  InputObserver input_observer_;
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
                                                const BatchLimits& limits, Backend& backend) {
  using hip_attn::ElementType;
  const ElementType type = options.kv_type.value_or(backend.activation_type());
  if (backend.device() != hip_attn::kCpu && type != backend.activation_type()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a KV cache of {} beside activations of {}; on a GPU both are one",
                            to_string(type), to_string(backend.activation_type())));
  }
  const auto make = [&]<typename T>(T) -> std::unique_ptr<Attention> {
    return std::make_unique<PagedAttention<T>>(options, model, pool, limits, backend);
  };
  return with_type(type, make);
}

}  // namespace llama
