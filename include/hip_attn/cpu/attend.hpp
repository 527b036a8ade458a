/// Stage "attend": softmax attention of one unit over a part of its keys, and how parts are put
/// together.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hip_attn/core/attended_keys.hpp"
#include "hip_attn/cpu/key_cursor.hpp"
#include "hip_attn/cpu/kv_rows.hpp"
#include "hip_attn/cpu/queries.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

/// What the rows of a unit have attended to so far; R = rows of its RowLayout, padded.
struct AttendState {
  float* out;  ///< [R, D] in the layout of the unit's rows: sums of p V
  float* max;  ///< [R]
  float* sum;  ///< [R]

  /// Nothing.
  void clear(const RowLayout& layout) const noexcept {
    std::fill(out, out + layout.size(), 0.f);
    std::fill(max, max + layout.padded_rows(), -std::numeric_limits<float>::infinity());
    std::fill(sum, sum + layout.padded_rows(), 0.f);
  }
};

/// Asks for rows that are read in this order: they are scattered, and their latencies overlap.
template <typename T>
void prefetch_rows(const T* const* rows, int n, std::int64_t head_dim) noexcept {
  constexpr std::int64_t kLineElements = 64 / sizeof(T);
  for (int i = 0; i < n; ++i) {
    for (std::int64_t d = 0; d < head_dim; d += kLineElements) __builtin_prefetch(rows[i] + d);
  }
}

/// What one thread computes tiles in, kTileAlignment-aligned.
struct TileMemory {
  float* keys;     ///< [kTileKeys, D]; null where all units have few rows, as `values`
  float* values;   ///< [kTileKeys, D]
  float* scores;   ///< [kTileKeys, kLanes], or [kFewRows, kTileKeys]
  float* best;     ///< [kTileKeys, kLanes]
  float* rescale;  ///< [kLanes]
};

/// Attends for one unit, whose first row stands at position p0, to keys and values of C.
template <Element C>
class UnitAttention {
 public:
  /// queries: the unit's query rows, from pool_queries with stride 1.
  template <Element T>
  UnitAttention(const TileKernels& kernels, const KvRows<C>& kv, const AttendedKeys& keys,
                std::int32_t row_window, const float* queries, const UnitQueries<T>& unit,
                std::int32_t p0, LogitRule rule) noexcept
      : kernels_(kernels),
        kv_(kv),
        keys_(keys),
        row_window_(row_window),
        queries_(queries),
        layout_(unit.layout()),
        group_(unit.group),
        p0_(p0),
        last_row_(p0 + static_cast<std::int32_t>(unit.rows) - 1),
        rule_(rule) {}

  /// Adds keys [first, last) of the list to `state`. While a tile is attended to, the next one is
  /// on its way.
  void attend(std::int64_t first, std::int64_t last, const AttendState& state,
              const TileMemory& memory) const {
    KeyCursor cursor(keys_, first, last);
    Tile tile;
    for (ask_for(tile, cursor); tile.size > 0; ask_for(tile, cursor)) {
      if (layout_.is_few()) {
        attend_rows(tile, state, memory);
      } else {
        attend_panels(tile, state, memory);
      }
    }
  }

 private:
  struct Tile {
    int size;  ///< keys, 0 behind the last
    std::int32_t positions[kTileKeys];
    const C* keys[kTileKeys];
    const C* values[kTileKeys];
  };

  void ask_for(Tile& tile, KeyCursor& cursor) const {
    tile.size = cursor.next(tile.positions);
    kv_.find(tile.positions, tile.size, tile.keys, tile.values);
    prefetch_rows(tile.keys, tile.size, layout_.head_dim);
    prefetch_rows(tile.values, tile.size, layout_.head_dim);
  }

  /// Some row does not see every key of the tile.
  [[nodiscard]] bool is_masked(const Tile& tile) const noexcept {
    const std::int32_t last_key = tile.positions[tile.size - 1];
    const std::int32_t first_in_window = std::max(tile.positions[0], keys_.window_start);
    return last_key > p0_ || (last_key >= first_in_window &&
                              first_in_window < keys_.row_window_start(last_row_, row_window_));
  }

  /// Of up to kLanes rows.
  struct Mask {
    alignas(kTileAlignment) std::int32_t always[kLanes];
    alignas(kTileAlignment) std::int32_t begin[kLanes];
    alignas(kTileAlignment) std::int32_t end[kLanes];

    [[nodiscard]] KeyMask view() noexcept { return {always, begin, end}; }
  };

  /// The mask of rows [first_row, first_row + count), where those behind the last are like it.
  void fill_mask(const Tile& tile, std::int64_t first_row, int count, Mask& mask) const noexcept {
    const auto before = [&](std::int32_t position) {
      const std::int32_t* const end = tile.positions + tile.size;
      return static_cast<std::int32_t>(std::lower_bound(tile.positions, end, position) -
                                       tile.positions);
    };
    for (int i = 0; i < count; ++i) {
      const std::int64_t row = std::min(first_row + i, layout_.num_rows - 1);
      const std::int32_t p = p0_ + static_cast<std::int32_t>(row / group_);
      mask.always[i] = before(std::min(keys_.window_start, p + 1));
      mask.begin[i] = before(keys_.row_window_start(p, row_window_));
      mask.end[i] = before(p + 1);
    }
  }

  void attend_rows(const Tile& tile, const AttendState& state, const TileMemory& memory) const {
    const auto rows = static_cast<int>(layout_.num_rows);
    static_assert(kFewRows <= kLanes);
    Mask mask;
    const KeyMask seen = mask.view();
    const bool masked = is_masked(tile);
    if (masked) fill_mask(tile, 0, rows, mask);
    const ElementKernels<C>& of_rows = kernels_.template of<C>();
    of_rows.dot_rows(tile.keys, tile.size, queries_, rows, memory.scores);
    kernels_.softmax_rows(memory.scores, rows, tile.size, masked ? &seen : nullptr, rule_,
                          {state.max, state.sum, memory.rescale});
    of_rows.accumulate_rows(tile.values, memory.scores, rows, tile.size, masked, memory.rescale,
                            state.out);
  }

  void attend_panels(const Tile& tile, const AttendState& state, const TileMemory& memory) const {
    kernels_.template of<C>().load(tile.keys, tile.size, memory.keys);
    kernels_.template of<C>().load(tile.values, tile.size, memory.values);
    Mask mask;
    const KeyMask seen = mask.view();
    const bool masked = is_masked(tile);
    const std::int64_t panel_size = layout_.head_dim * kLanes;
    for (std::int64_t panel = 0; panel < num_panels(layout_.num_rows); ++panel) {
      if (masked) fill_mask(tile, panel * kLanes, kLanes, mask);
      kernels_.dot(memory.keys, queries_ + panel * panel_size, tile.size, memory.scores);
      kernels_.softmax(memory.scores, tile.size, masked ? &seen : nullptr, rule_,
                       {state.max + panel * kLanes, state.sum + panel * kLanes, memory.rescale});
      kernels_.accumulate(memory.values, memory.scores, tile.size, masked, memory.rescale,
                          state.out + panel * panel_size);
    }
  }

  const TileKernels& kernels_;
  const KvRows<C>& kv_;
  const AttendedKeys& keys_;
  std::int32_t row_window_;
  const float* queries_;
  RowLayout layout_;
  std::int64_t group_;
  std::int32_t p0_;
  std::int32_t last_row_;  ///< position
  LogitRule rule_;
};

/// Adds what `part` has attended to, which is other keys, to `state`.
inline void merge_state(const RowLayout& layout, const AttendState& part,
                        const AttendState& state) {
  constexpr int kMost = kLanes > kFewRows ? kLanes : kFewRows;
  const std::int64_t rows_at_once = layout.is_few() ? 1 : kLanes;
  for (std::int64_t first = 0; first < layout.padded_rows(); first += rows_at_once) {
    float old_weight[kMost];
    float part_weight[kMost];
    for (std::int64_t i = 0; i < rows_at_once; ++i) {
      const std::int64_t row = first + i;
      const float max = std::max(state.max[row], part.max[row]);
      const float reference = std::isinf(max) && max < 0 ? 0.f : max;
      old_weight[i] = std::exp(state.max[row] - reference);
      part_weight[i] = std::exp(part.max[row] - reference);
      state.max[row] = max;
      state.sum[row] = state.sum[row] * old_weight[i] + part.sum[row] * part_weight[i];
    }
    float* out = state.out + first * layout.head_dim;
    const float* more = part.out + first * layout.head_dim;
    for (std::int64_t d = 0; d < layout.head_dim; ++d) {
      for (std::int64_t i = 0; i < rows_at_once; ++i) {
        const std::int64_t at = d * rows_at_once + i;
        out[at] = out[at] * old_weight[i] + more[at] * part_weight[i];
      }
    }
  }
}

/// Writes a row of what a unit has attended to, normalised, to out [D] and returns its lse.
template <Element T>
float finish_row(const RowLayout& layout, const AttendState& state, std::int64_t row, T* out) {
  const float sum = state.sum[row];
  if (sum == 0.f) {  // nothing attended
    std::fill(out, out + layout.head_dim, from_float<T>(0.f));
    return -std::numeric_limits<float>::infinity();
  }
  const float* from = state.out + layout.offset(row);
  for (std::int64_t d = 0; d < layout.head_dim; ++d) {
    out[d] = from_float<T>(from[d * layout.step()] / sum);
  }
  return state.max[row] + std::log(sum);
}

}  // namespace hip_attn::cpu
