// A layer of the benchmarks of offload: its cache, on the device or at home.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cuda_bench_support.hpp"
#include "hip_attn/hip_attn.hpp"

namespace hip_attn::bench {

/// Random keys and values in blocks of a store's size, with landmarks, and the memory of a store
/// where there is a plan for one. `lender`: a layer whose home is this one's, too; null: none.
struct OffloadLayer {
  using T = bfloat16;

  OffloadLayer(std::int64_t batch, std::int64_t context, std::int64_t kv_heads,
               std::int64_t head_dim, const HipConfig& config, const KvStorePlan* store_plan,
               const OffloadLayer* lender = nullptr)
      : blocks(batch * context / kKvBlockTokens),
        landmarks(landmark_chunk_sizes(config), batch, context, kv_heads, head_dim) {
    if (store_plan) memory.emplace(static_cast<std::int64_t>(store_plan->memory_bytes));
    if (lender) {
      pages = lender->pages;
      return;
    }
    const std::int64_t elements = blocks * kv_heads * 2 * kKvBlockTokens * head_dim;
    T* data = nullptr;
    if (store_plan) {
      check(HostMemory::allocate(cuda_device(), elements * sizeof(T), home));
      data = reinterpret_cast<T*>(home.data());
    } else {
      device.emplace(elements);
      data = device->get();
    }
    fill(data, elements, 1);
    pages = kv_home_pages(data, blocks, kv_heads, head_dim);
  }

  std::int64_t blocks;
  KvPages<T> pages;
  LandmarkLayer<T> landmarks;
  HostMemory home;
  std::optional<Buffer<T>> device;
  std::optional<Buffer<std::byte>> memory;
};

/// One `share`th of the cache's bytes, without its landmarks; for 1 room for all, and for what a
/// store keeps beside.
inline std::size_t share_of_cache(std::int64_t share, std::int64_t batch, std::int64_t context,
                                  std::int64_t kv_heads, std::int64_t head_dim,
                                  const HipConfig& config) {
  const std::int64_t kv_bytes =
      batch * context * kv_heads * 2 * head_dim * std::int64_t{sizeof(OffloadLayer::T)};
  if (share == 1) return static_cast<std::size_t>(2 * kv_bytes);
  std::int64_t landmark_bytes = 0;
  for (const std::int64_t size : landmark_chunk_sizes(config)) landmark_bytes += kv_bytes / size;
  return static_cast<std::size_t>(kv_bytes / share - landmark_bytes);
}

}  // namespace hip_attn::bench
