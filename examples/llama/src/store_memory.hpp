/// The device memory of hip_attn's stores, one for each layer, where the cache is in host memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "batch_arrays.hpp"
#include "buffer.hpp"
#include "error.hpp"
#include "hip_attn/hip_attn.hpp"
#include "llama_config.hpp"

namespace llama {

/// A store's row is the slot of a sequence.
class StoreMemory {
 public:
  StoreMemory() = default;
  StoreMemory(std::int64_t sequences, Backend& backend)
      : lengths_(backend, sequences), known_(sequences) {}

  /// For the next layer, whose decode runs this plan.
  void add_layer(const hip_attn::AttentionPlan& decode, std::size_t budget, Backend& backend) {
    Layer& layer = *layers_.emplace_back(std::make_unique<Layer>());
    check(hip_attn::plan_kv_store(
        decode.config,
        {decode.shape.device, decode.cache_type, decode.shape.batch, decode.shape.max_seq_len,
         decode.shape.num_kv_heads, decode.shape.head_dim},
        budget, layer.plan));
    layer.memory = Buffer<std::byte>(backend, static_cast<std::int64_t>(layer.plan.memory_bytes));
    check(hip_attn::clear_kv_store({&layer.plan, layer.memory.data()}, backend.stream()));
  }

  [[nodiscard]] bool empty() const noexcept { return layers_.empty(); }

  /// Of the batch that `inputs` holds.
  [[nodiscard]] hip_attn::KvStore store(std::int64_t layer, const BatchArrays& inputs) const {
    const Layer& of = *layers_[layer];
    return {&of.plan, of.memory.data(), inputs.slots()};
  }

  /// Binds the sequences of a batch that are not those that had their slots before.
  void bind_new(const Batch& batch, const BatchArrays& inputs, std::int64_t num_blocks,
                hip_attn::Stream stream) {
    std::vector<std::int32_t> before;
    for (std::int64_t b = 0; b < batch.size(); ++b) {
      before.push_back(static_cast<std::int32_t>(batch.first_position(b)));
    }
    lengths_.upload(before);
    for (std::int64_t b = 0; b < batch.size(); ++b) {
      Known& known = known_[batch.slots[b]];
      const auto pages = batch.block_table.begin() + b * batch.max_pages;
      const std::int64_t held = hip_attn::ceil_div(before[b], hip_attn::kKvBlockTokens);
      const bool goes_on = known.length == before[b] && before[b] > 0 &&
                           std::equal(pages, pages + held, known.pages.begin());
      known.length = batch.seq_lens[b];
      known.pages.assign(pages, pages + batch.max_pages);
      if (goes_on) continue;
      for (const auto& layer : layers_) {
        const auto table = inputs.block_table();
        const auto slots = inputs.slots();
        hip_attn::BindKvStoreArgs args;
        args.store = {&layer->plan, layer->memory.data(),
                      hip_attn::TensorView<const std::int32_t, 1>(slots.data + b, {1})};
        args.num_home_blocks = num_blocks;
        args.block_table = {table.data + b * table.strides[0], {1, table.sizes[1]}};
        args.seq_lens = {lengths_.data() + b, {1}};
        check(hip_attn::bind_kv_store(args, stream));
      }
    }
  }

  /// Of all layers.
  [[nodiscard]] hip_attn::KvStoreCounters counters(hip_attn::Stream stream) const {
    hip_attn::KvStoreCounters all;
    for (const auto& layer : layers_) {
      hip_attn::KvStoreCounters counters;
      check(
          hip_attn::read_kv_store_counters({&layer->plan, layer->memory.data()}, counters, stream));
      all.hits += counters.hits;
      all.misses += counters.misses;
      all.evictions += counters.evictions;
    }
    return all;
  }

 private:
  struct Layer {
    hip_attn::KvStorePlan plan;
    Buffer<std::byte> memory;
  };
  /// The sequence that a slot is bound to.
  struct Known {
    std::int64_t length = 0;
    std::vector<std::int32_t> pages;
  };

  std::vector<std::unique_ptr<Layer>> layers_;
  Buffer<std::int32_t> lengths_;
  std::vector<Known> known_;
};

}  // namespace llama
