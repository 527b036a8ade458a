// What append_kv and update_landmarks have in common: checks of landmarks that are written, and
// making them on the CPU.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "hip_attn/checks/call.hpp"
#include "hip_attn/cpu/make_landmarks.hpp"
#include "hip_attn/kv.hpp"
#include "openmp_runtime.hpp"
#include "validate.hpp"

namespace hip_attn::detail {

// Keys of all requests, and what messages call them.
template <Element T>
struct UpkeepKeys {
  TensorView<const T, 4> k;
  std::optional<TensorView<const std::int32_t, 2>> block_table;
  const char* table_name;
  const char* to_name;  // of PositionRange::to

  [[nodiscard]] std::int64_t num_pages() const { return k.sizes[0]; }
  [[nodiscard]] std::int64_t page_size() const { return k.sizes[1]; }
  [[nodiscard]] std::int64_t capacity() const {
    return page_size() * (block_table ? block_table->sizes[1] : 1);
  }
};

// Landmarks of complete chunks that meet it are made. Empty: none are.
struct PositionRange {
  std::int64_t from = 0;
  std::int64_t to = 0;

  // Of the chunks of so many tokens that are complete: the first one to make, and one past the
  // last.
  [[nodiscard]] std::int64_t first(std::int64_t chunk_size) const { return from / chunk_size; }
  [[nodiscard]] std::int64_t end(std::int64_t chunk_size) const {
    return from < to ? std::max(to / chunk_size, first(chunk_size)) : first(chunk_size);
  }
};

// A status about a member of a level, with the level's name in front.
inline Status of_level(int i, const Status& status) {
  if (status.ok()) return {};
  return {status.code(), message("landmarks.levels[", i, "].", status.message())};
}

// Landmarks have memory of their own; `others` are what the call reads or writes besides.
template <Element T>
Status check_landmark_overlaps(const Landmarks<T>& landmarks,
                               std::initializer_list<Extent> others) {
  const auto level = [&](int i) -> const LandmarkLevel<T>& {
    return landmarks.levels[static_cast<std::size_t>(i)];
  };
  for (int i = 0; i < landmarks.num_levels; ++i) {
    const Extent rows = extent_of("rows", level(i).rows);
    for (const Extent& other : others) {
      HIP_ATTN_RETURN_IF_ERROR(of_level(i, check_disjoint(rows, other)));
    }
    for (int j = 0; j < landmarks.num_levels; ++j) {
      if (level(j).block_table) {
        const Extent table = extent_of("the block_table of a level", *level(j).block_table);
        HIP_ATTN_RETURN_IF_ERROR(of_level(i, check_disjoint(rows, table)));
      }
      if (j >= i) continue;
      const Extent finer = extent_of("the rows of a finer level", level(j).rows);
      HIP_ATTN_RETURN_IF_ERROR(of_level(i, check_disjoint(rows, finer)));
    }
  }
  return {};
}

// A page for every row [first, end) of request b.
inline Status check_pages_of(std::string_view name,
                             const std::optional<TensorView<const std::int32_t, 2>>& table,
                             std::int64_t num_pages, std::int64_t rows_per_page, std::int64_t b,
                             std::int64_t first, std::int64_t end) {
  if (first >= end) return {};
  if (!table) {
    if (b < num_pages) return {};
    return {StatusCode::kInvalidPage,
            fmt::format("{} is absent and there are {} pages, none for request {}; without a block "
                        "table each request needs one page",
                        name, num_pages, b)};
  }
  for (std::int64_t column = first / rows_per_page; column <= (end - 1) / rows_per_page; ++column) {
    const std::int32_t page = (*table)(b, column);
    if (page >= 0 && page < num_pages) continue;
    return {StatusCode::kInvalidPage, fmt::format("{}[{}][{}] is {}; pages are 0 to {}", name, b,
                                                  column, page, num_pages - 1)};
  }
  return {};
}

// Pages for the landmarks that are made and the children that they are made of.
template <Element T>
Status check_landmark_places(const UpkeepKeys<T>& keys, const Landmarks<T>& landmarks,
                             std::int64_t b, const PositionRange& range) {
  for (int i = 0; i < landmarks.num_levels; ++i) {
    const LandmarkLevel<T>& level = landmarks.levels[static_cast<std::size_t>(i)];
    const std::int64_t size = level.chunk_size;
    std::int64_t first = range.first(size);
    const std::int64_t end = range.end(size);
    if (first == end) break;  // and none above
    if (end > level.capacity()) {
      return {StatusCode::kSeqLenBeyondBlockTable,
              fmt::format("{}[{}] is {}, which completes landmarks 0 to {} of chunk_size {}; the "
                          "pages of landmarks.levels[{}] hold {} of a request",
                          keys.to_name, b, range.to, end - 1, size, i, level.capacity())};
    }
    if (i + 1 < landmarks.num_levels) {
      const std::int64_t parent = landmarks.levels[static_cast<std::size_t>(i + 1)].chunk_size;
      if (range.first(parent) < range.end(parent)) first = range.first(parent) * (parent / size);
    }
    HIP_ATTN_RETURN_IF_ERROR(
        of_level(i, check_pages_of("block_table", level.block_table, level.num_pages(),
                                   level.landmarks_per_page(), b, first, end)));
  }
  return {};
}

// What the CPU can see of request b: everything that is read and written has a page.
template <Element T>
Status check_upkeep_of(const UpkeepKeys<T>& keys, const Landmarks<T>& landmarks, std::int64_t b,
                       const PositionRange& range) {
  if (range.to > keys.capacity()) {
    return {StatusCode::kSeqLenBeyondBlockTable,
            fmt::format("{}[{}] is {}; {} of {} tokens hold {}", keys.to_name, b, range.to,
                        keys.block_table ? "the block table's pages" : "a page", keys.page_size(),
                        keys.capacity())};
  }
  if (landmarks.num_levels == 0 || range.from == range.to) return {};
  const std::int64_t finest = landmarks.levels[0].chunk_size;
  HIP_ATTN_RETURN_IF_ERROR(check_pages_of(keys.table_name, keys.block_table, keys.num_pages(),
                                          keys.page_size(), b, range.first(finest) * finest,
                                          range.end(finest) * finest));
  return check_landmark_places(keys, landmarks, b, range);
}

// Threads share spans of positions that are whole chunks of every level, so that none waits for
// another's landmarks. range_of(b) has been checked.
template <Element T, typename RangeOf>
void make_landmarks(const UpkeepKeys<T>& keys, const Landmarks<T>& landmarks, std::int64_t batch,
                    const RangeOf& range_of) {
  constexpr std::int64_t kLeastSpan = 1024;  // positions: a thread's trouble is worth it
  if (landmarks.num_levels == 0) return;
  const std::int64_t finest = landmarks.levels[0].chunk_size;
  const std::int64_t span = std::max(
      kLeastSpan, landmarks.levels[static_cast<std::size_t>(landmarks.num_levels - 1)].chunk_size);
  const auto page_of = [](const std::optional<TensorView<const std::int32_t, 2>>& table,
                          std::int64_t b, std::int64_t column) {
    return table ? std::int64_t{(*table)(b, column)} : b;
  };
  keep_openmp_loaded();
  for (std::int64_t b = 0; b < batch; ++b) {
    const PositionRange range = range_of(b);
    // Most steps of decode complete no chunk.
    if (range.first(finest) == range.end(finest)) continue;
    const std::int64_t first_span = range.from / span;
    const std::int64_t num_spans = (range.to - 1) / span - first_span + 1;
#pragma omp parallel for
    for (std::int64_t unit = 0; unit < num_spans * keys.k.sizes[2]; ++unit) {
      const std::int64_t head = unit % keys.k.sizes[2];
      const std::int64_t begin = (first_span + unit / keys.k.sizes[2]) * span;
      const auto key_row = [&](std::int64_t position) {
        const std::int64_t column = position / keys.page_size();
        return &keys.k(page_of(keys.block_table, b, column), position % keys.page_size(), head, 0);
      };
      const auto landmark_row = [&](int i, std::int64_t number) {
        const LandmarkLevel<T>& level = landmarks.levels[static_cast<std::size_t>(i)];
        const std::int64_t column = number / level.landmarks_per_page();
        return &level.rows(page_of(level.block_table, b, column),
                           number % level.landmarks_per_page(), head, 0, 0);
      };
      cpu::LandmarkMaker<T, decltype(key_row), decltype(landmark_row)>(landmarks, key_row,
                                                                       landmark_row)
          .make(std::max(range.from, begin), std::min(range.to, begin + span));
    }
  }
}

}  // namespace hip_attn::detail
