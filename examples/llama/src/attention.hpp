/// The attention of all layers, as the model sees it: activations in, activations out.
/// paged_attention.cpp is where hip_attn is called.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "backend.hpp"
#include "batch.hpp"
#include "hip_attn/config_json.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/offload.hpp"
#include "hip_attn/selection.hpp"
#include "kv_cache.hpp"
#include "llama_config.hpp"
#include "selection_entry.hpp"

namespace llama {

/// Which keys a row attends to.
enum class AttentionMode {
  kHip,     ///< what the search of the configuration selects
  kDense,   ///< all
  kWindow,  ///< the configuration's sink, and a window longer by what it would select
  kRandom,  ///< as many blocks as it would select, drawn at random
};

const char* to_string(AttentionMode mode) noexcept;

struct AttentionOptions {
  AttentionMode mode = AttentionMode::kHip;
  hip_attn::ModelConfig config;  ///< per layer; not used by kDense
  /// Absent: that of the backend's activations, the only one that a GPU takes.
  std::optional<hip_attn::ElementType> kv_type;
  /// The last stage runs at each of a sequence's first decode steps, so many; afterwards the
  /// intervals of the configuration hold. What a prompt asks for is often looked up at once, a few
  /// tokens further at every step: the selection of the first step does not reach all of it.
  std::int64_t settling_steps = 32;
  std::uint64_t seed = 0;  ///< of kRandom
  /// Of landmarks: hip_attn::Landmarks::spread.
  float landmark_spread = 0.5f;
  /// The cache is in host memory, and of it so many bytes at most are on the device, those of all
  /// layers together. Pages have hip_attn::kKvBlockTokens tokens then. A prompt passes through as
  /// much again as one layer has. Absent: it is on the device.
  std::optional<std::int64_t> kv_budget;
  /// Layers make their selections anew in different steps, as many in each as can be, so that what
  /// comes over the link does not come at once.
  bool stagger_refresh = false;
  /// Searches run one step ahead (hip_attn::refresh_ahead_at): of a cache in host memory, blocks
  /// come before the step that reads them.
  bool search_ahead = false;
};

/// What attention has cost since the start. A unit is a query block of one KV head: a decode step,
/// or up to block_q positions of a prefill, with all query heads that share the KV head.
struct AttentionStats {
  std::int64_t units = 0;
  std::int64_t rows = 0;                 ///< (position, KV head) pairs
  std::int64_t search_keys_read = 0;     ///< summed over units; a landmark counts as two keys
  std::int64_t attention_keys_read = 0;  ///< summed over units
  std::int64_t keys_attended = 0;        ///< summed over rows

  /// Keys per query block and KV head.
  [[nodiscard]] double search_reads() const noexcept { return ratio(search_keys_read, units); }
  [[nodiscard]] double attention_reads() const noexcept {
    return ratio(attention_keys_read, units);
  }
  /// Keys per row and KV head.
  [[nodiscard]] double keys_per_row() const noexcept { return ratio(keys_attended, rows); }

  friend AttentionStats operator-(const AttentionStats& a, const AttentionStats& b) {
    return {a.units - b.units, a.rows - b.rows, a.search_keys_read - b.search_keys_read,
            a.attention_keys_read - b.attention_keys_read, a.keys_attended - b.keys_attended};
  }

 private:
  static double ratio(std::int64_t sum, std::int64_t count) noexcept {
    return static_cast<double>(sum) / static_cast<double>(std::max<std::int64_t>(1, count));
  }
};

/// Called after each layer's attention with what it selected, for the layers that select.
using SelectionObserver =
    std::function<void(std::int64_t layer, const Batch& batch, const hip_attn::HipConfig& config,
                       const hip_attn::ConstBlockSelection& selection)>;

/// How a layer attended to one row of a prefill, and what every key would have been.
struct AttentionSample {
  std::int64_t layer;
  std::int64_t position;
  std::vector<float> q;                  ///< [Hq, D]
  std::vector<float> lse;                ///< [Hq] over the keys that the row attended to
  std::vector<float> dense_lse;          ///< [Hq] over all up to itself: of the same q and cache
  std::vector<SelectionEntry> attended;  ///< [Hk]
};
using SampleObserver = std::function<void(AttentionSample sample)>;

/// Called before each layer's attention with its inputs, in the backend's memory: q
/// [total_q, Hq * D] and k [total_q, Hk * D], rotary embedding applied.
using InputObserver =
    std::function<void(std::int64_t layer, const Batch& batch, const Tensor& q, const Tensor& k)>;

/// What the searches of decode left of one sequence in a layer: an entry for each KV head, whose
/// words hip_attn/core/cache_layout.hpp describes. No stages: the layer does not search.
struct CachedSearch {
  hip_attn::SearchPlan plan{};
  std::vector<std::int32_t> words;  ///< [num_kv_heads, plan.cache_entry_words]
};

class Attention {
 public:
  virtual ~Attention() = default;

  /// Uploads what the layers need to know of the batch; before the first of them.
  virtual void prepare(const Batch& batch) = 0;
  /// Writes the batch's keys and values into the cache, then attends. q and out are
  /// [total_q, Hq * D], k and v [total_q, Hk * D], rotary embedding already applied.
  virtual void attend(std::int64_t layer, const Batch& batch, const Tensor& q, const Tensor& k,
                      const Tensor& v, const Tensor& out) = 0;
  /// Behind a pass, which may still run: starts what is to be done before the next one.
  virtual void finish(const Batch& batch) = 0;
  /// Whether attend only enqueues work on the device, so that a Recording may hold it.
  [[nodiscard]] virtual bool recordable() const = 0;

  /// Prompts are to be cut at multiples of this many positions, so that their pieces select what
  /// the whole would.
  [[nodiscard]] virtual std::int64_t prefill_alignment() const = 0;
  [[nodiscard]] virtual AttentionStats stats() const = 0;
  /// With a kv_budget: of all layers, since the start.
  [[nodiscard]] virtual std::optional<hip_attn::KvStoreCounters> store_counters() const {
    return std::nullopt;
  }
  virtual void observe_selections(SelectionObserver observer) = 0;
  /// Calls the observer for the rows of a prefill at these positions, ascending, in every layer
  /// that leaves keys out. Each costs a dense decode step of that layer.
  virtual void sample_rows(std::vector<std::int64_t> /*positions*/, SampleObserver /*observer*/) {}
  /// The keys of a sequence in a layer's cache, [size, Hk, D]. Waits for what is enqueued.
  [[nodiscard]] virtual std::vector<float> keys(std::int64_t /*layer*/,
                                                const Sequence& /*sequence*/) {
    return {};
  }
  virtual void observe_inputs(InputObserver observer) = 0;
  /// Of the sequence in a slot. Waits for what is enqueued.
  [[nodiscard]] virtual CachedSearch cached_search(std::int64_t /*layer*/,
                                                   std::int32_t /*slot*/) const {
    return {};
  }
};

/// Attention through hip_attn over a paged cache of its own, whose pages `pool` hands out. Errors:
/// kAttention for a configuration, a head dim or a device that hip_attn refuses.
std::unique_ptr<Attention> make_paged_attention(const AttentionOptions& options,
                                                const LlamaConfig& model, const PagePool& pool,
                                                const BatchLimits& limits, Backend& backend);

}  // namespace llama
