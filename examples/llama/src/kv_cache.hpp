/// A paged KV cache: who owns which page, and the pages' memory.
///
/// The bookkeeping (PagePool, Sequence) knows nothing of element types or layers: one block table
/// per sequence serves all layers. The memory (KvMemory) is what hip_attn sees.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "buffer.hpp"
#include "error.hpp"
#include "hip_attn/kv.hpp"
#include "llama_config.hpp"

namespace llama {

/// The free pages, and how many sequences hold each of the others.
class PagePool {
 public:
  PagePool(std::int64_t num_pages, std::int64_t page_size);

  [[nodiscard]] std::int64_t page_size() const noexcept { return page_size_; }
  [[nodiscard]] std::int64_t num_pages() const noexcept {
    return static_cast<std::int64_t>(holders_.size());
  }

  std::int32_t acquire();  ///< kOutOfPages when none is free
  void share(std::int32_t page) noexcept { ++holders_[page]; }
  void release(std::int32_t page);

 private:
  std::int64_t page_size_;
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> holders_;
};

/// The tokens of one request that are in the cache. Gives its pages back when it ends.
class Sequence {
 public:
  /// slot: where hip_attn's SelectionCache keeps this sequence's selections; unique among the
  /// sequences that decode together.
  Sequence(PagePool& pool, std::int32_t slot) : pool_(&pool), slot_(slot) {}
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(Sequence&&) = delete;
  ~Sequence();

  /// Makes room for `count` more tokens. Their keys and values are written by the forward pass.
  void grow(std::int64_t count);

  /// A sequence that shares this one's full pages, and therefore its first
  /// size() / page_size() * page_size() tokens; the rest has to be given to it again.
  [[nodiscard]] Sequence fork(std::int32_t slot) const;

  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  [[nodiscard]] std::int32_t slot() const noexcept { return slot_; }
  [[nodiscard]] std::span<const std::int32_t> pages() const noexcept { return pages_; }
  /// The cache slot of a token, as append_kv's slot_mapping wants it.
  [[nodiscard]] std::int64_t cache_slot(std::int64_t position) const noexcept {
    return pages_[position / pool_->page_size()] * pool_->page_size() +
           position % pool_->page_size();
  }

  /// Decode steps so far: what hip_attn::refresh_from_at counts.
  std::int64_t decode_steps = 0;

 private:
  PagePool* pool_;
  std::int32_t slot_;
  std::vector<std::int32_t> pages_;
  std::int64_t size_ = 0;
};

/// The keys and values of every layer, pages stored [num_pages, page_size, Hk, D]; or in host
/// memory, as hip_attn::kv_home_pages.
template <hip_attn::Element T>
class KvMemory {
 public:
  KvMemory(const LlamaConfig& model, const PagePool& pool, bool at_home, Backend& backend)
      : num_pages_(pool.num_pages()),
        page_size_(pool.page_size()),
        num_kv_heads_(model.num_kv_heads),
        head_dim_(model.head_dim),
        backend_(backend) {
    const std::int64_t layer_size = num_pages_ * page_size_ * num_kv_heads_ * head_dim_;
    for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
      if (at_home) {
        check(hip_attn::HostMemory::allocate(backend.device(),
                                             static_cast<std::size_t>(2 * layer_size) * sizeof(T),
                                             homes_.emplace_back()));
        continue;
      }
      keys_.emplace_back(backend, layer_size);
      values_.emplace_back(backend, layer_size);
    }
  }

  [[nodiscard]] hip_attn::KvPages<T> layer(std::int64_t layer) {
    if (!homes_.empty()) {
      return hip_attn::kv_home_pages(reinterpret_cast<T*>(homes_[layer].data()), num_pages_,
                                     num_kv_heads_, head_dim_);
    }
    return hip_attn::kv_pages_nhd(keys_[layer].data(), values_[layer].data(), num_pages_,
                                  page_size_, num_kv_heads_, head_dim_);
  }

  /// A copy on the host, [size, Hk, D]. Waits for what is enqueued.
  [[nodiscard]] std::vector<float> keys(std::int64_t layer, const Sequence& sequence) {
    hip_attn::TensorView<const T, 4> pages = this->layer(layer).k;
    std::vector<T> downloaded;
    if (homes_.empty()) {
      downloaded = keys_[layer].download();
      pages.data = downloaded.data();
    } else {
      backend_.synchronize();
    }
    std::vector<float> keys(sequence.size() * num_kv_heads_ * head_dim_);
    float* to = keys.data();
    for (std::int64_t t = 0; t < sequence.size(); ++t) {
      for (std::int64_t head = 0; head < num_kv_heads_; ++head) {
        const T* key = &pages(sequence.pages()[t / page_size_], t % page_size_, head, 0);
        to = std::transform(key, key + head_dim_, to,
                            [](T value) { return hip_attn::to_float(value); });
      }
    }
    return keys;
  }

 private:
  std::int64_t num_pages_;
  std::int64_t page_size_;
  std::int64_t num_kv_heads_;
  std::int64_t head_dim_;
  Backend& backend_;
  std::vector<Buffer<T>> keys_;  // by layer
  std::vector<Buffer<T>> values_;
  std::vector<hip_attn::HostMemory> homes_;  // by layer
};

}  // namespace llama
