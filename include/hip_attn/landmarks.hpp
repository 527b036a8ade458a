/// Views of landmarks: summaries of chunks of keys, which the search reads in place of the keys
/// (docs/guide/algorithm.md, "Landmarks"). append_kv and update_landmarks (kv.hpp) write them.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <vector>

#include "hip_attn/config.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn {

/// A Landmarks has at most so many levels, and a HipConfig so many landmark stages.
inline constexpr int kMaxLandmarkLevels = 8;

/// The landmarks of chunks of one size. Every complete chunk [j * chunk_size, (j + 1) * chunk_size)
/// of a request, counted from position 0, has one for each KV head: two rows, `hi` and `lo`. They
/// are stored as keys are, in pages, a landmark in place of a token. Memory: 1 / chunk_size of what
/// the keys and values take.
template <typename T>
struct LandmarkLevel {
  std::int64_t chunk_size = 0;  ///< tokens, a power of two
  /// [num_pages, landmarks_per_page, Hk, 2, D], hi before lo. Strides of pages, landmarks, heads
  /// and of the two rows are multiples of 16 bytes.
  TensorView<T, 5> rows;
  /// int32 [B, max_pages], any row stride: landmark j of request b is on page
  /// block_table(b, j / landmarks_per_page) at j % landmarks_per_page. Entries past the last
  /// complete chunk are not read. Absent: request b owns page b. Where pages of keys hold a
  /// multiple of chunk_size tokens, one table serves both, and shared prefixes share landmarks.
  std::optional<TensorView<const std::int32_t, 2>> block_table;

  [[nodiscard]] constexpr std::int64_t num_pages() const noexcept { return rows.sizes[0]; }
  [[nodiscard]] constexpr std::int64_t landmarks_per_page() const noexcept { return rows.sizes[1]; }
  [[nodiscard]] constexpr std::int64_t num_kv_heads() const noexcept { return rows.sizes[2]; }
  [[nodiscard]] constexpr std::int64_t head_dim() const noexcept { return rows.sizes[4]; }
  /// Landmarks that the pages of one request hold.
  [[nodiscard]] constexpr std::int64_t capacity() const noexcept {
    return landmarks_per_page() * (block_table ? block_table->sizes[1] : 1);
  }

  template <std::same_as<const T> ConstT>
  requires(!std::is_const_v<T>) constexpr operator LandmarkLevel<ConstT>() const {
    return {chunk_size, rows, block_table};
  }
};

/// A level stored [Hk, num_pages, landmarks_per_page, 2, D]: those of one head lie together, which
/// is what the search reads fastest. T elements needed: the product of all sizes.
template <typename T>
constexpr LandmarkLevel<T> landmark_level_by_head(T* data, std::int64_t chunk_size,
                                                  std::int64_t num_pages,
                                                  std::int64_t landmarks_per_page,
                                                  std::int64_t num_kv_heads,
                                                  std::int64_t head_dim) {
  const std::int64_t landmark = 2 * head_dim;
  const std::int64_t page = landmarks_per_page * landmark;
  return {chunk_size,
          TensorView<T, 5>(data, {num_pages, landmarks_per_page, num_kv_heads, 2, head_dim},
                           {page, landmark, num_pages * page, head_dim, 1}),
          std::nullopt};
}

/// The landmarks of one layer's cache.
template <typename T>
struct Landmarks {
  /// The first num_levels count, their chunk sizes ascending. The first is made of keys, each other
  /// one of the level before it.
  std::array<LandmarkLevel<T>, std::size_t{kMaxLandmarkLevels}> levels{};
  int num_levels = 0;
  /// How far hi and lo reach from the mean of a chunk's keys to their extremes, 0 to 1: 0 is the
  /// mean alone, 1 the bounds. Used where landmarks are made; a search does not look at it.
  float spread = 0.5f;

  /// The level of this chunk size; null: there is none.
  [[nodiscard]] constexpr const LandmarkLevel<T>* find(std::int64_t chunk_size) const noexcept {
    for (int i = 0; i < num_levels; ++i) {
      const LandmarkLevel<T>& level = levels[static_cast<std::size_t>(i)];
      if (level.chunk_size == chunk_size) return &level;
    }
    return nullptr;
  }

  template <std::same_as<const T> ConstT>
  requires(!std::is_const_v<T>) constexpr operator Landmarks<ConstT>() const {
    Landmarks<ConstT> result;
    for (int i = 0; i < num_levels; ++i) {
      result.levels[static_cast<std::size_t>(i)] = levels[static_cast<std::size_t>(i)];
    }
    result.num_levels = num_levels;
    result.spread = spread;
    return result;
  }
};

/// The chunk sizes of config's landmark stages, ascending and each once: the levels that a call
/// with it needs.
HIP_ATTN_API std::vector<std::int64_t> landmark_chunk_sizes(const HipConfig& config);

}  // namespace hip_attn
