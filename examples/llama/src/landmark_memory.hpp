/// The memory of a layer's landmarks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend.hpp"
#include "buffer.hpp"
#include "hip_attn/landmarks.hpp"
#include "kv_cache.hpp"
#include "landmark_places.hpp"
#include "llama_config.hpp"

namespace llama {

/// Landmarks of each of some chunk sizes, ascending. Those of one head lie together.
template <hip_attn::Element T>
class LandmarkMemory {
 public:
  LandmarkMemory() = default;
  LandmarkMemory(std::span<const std::int64_t> chunk_sizes, float spread, const LlamaConfig& model,
                 const PagePool& pool, Backend& backend) {
    landmarks_.spread = spread;
    for (const std::int64_t chunk_size : chunk_sizes) {
      const LandmarkPlaces places(chunk_size, pool.page_size());
      const std::int64_t pages = places.num_pages(pool.num_pages());
      const std::int64_t landmarks = pages * places.landmarks_per_page();
      const auto& rows =
          rows_.emplace_back(backend, landmarks * model.num_kv_heads * 2 * model.head_dim);
      landmarks_.levels[static_cast<std::size_t>(landmarks_.num_levels++)] =
          hip_attn::landmark_level_by_head(rows.data(), chunk_size, pages,
                                           places.landmarks_per_page(), model.num_kv_heads,
                                           model.head_dim);
    }
  }

  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
  [[nodiscard]] std::vector<std::int64_t> chunk_sizes() const {
    std::vector<std::int64_t> sizes;
    for (int i = 0; i < landmarks_.num_levels; ++i) {
      sizes.push_back(landmarks_.levels[static_cast<std::size_t>(i)].chunk_size);
    }
    return sizes;
  }

  /// block_table(chunk_size) is that of a batch.
  template <typename BlockTable>
  [[nodiscard]] hip_attn::Landmarks<T> landmarks(const BlockTable& block_table) const {
    hip_attn::Landmarks<T> landmarks = landmarks_;
    for (int i = 0; i < landmarks.num_levels; ++i) {
      auto& level = landmarks.levels[static_cast<std::size_t>(i)];
      level.block_table = block_table(level.chunk_size);
    }
    return landmarks;
  }

 private:
  std::vector<Buffer<T>> rows_;  // by level
  hip_attn::Landmarks<T> landmarks_;
};

}  // namespace llama
