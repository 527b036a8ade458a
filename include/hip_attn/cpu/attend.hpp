/// Stage "attend": softmax attention of one unit over sink, selected blocks and window.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hip_attn/cpu/kv_rows.hpp"
#include "hip_attn/cpu/queries.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

/// Memory of one thread for attention, kTileAlignment-aligned; R = query rows of a unit, padded to
/// whole panels.
struct AttendMemory {
  float* keys;     ///< [kTileKeys, D]
  float* values;   ///< [kTileKeys, D]
  float* scores;   ///< [kTileKeys, kLanes]
  float* out;      ///< [R / kLanes][D][kLanes]
  float* max;      ///< [R]
  float* sum;      ///< [R]
  float* rescale;  ///< [kLanes]
};

/// The keys a unit attends to, in ascending order: [0, sink_end), the blocks, [window_start, end).
struct AttendedKeys {
  std::int64_t sink_end;
  const std::int32_t*
      blocks;  ///< block numbers: block n holds keys [n * block_k, (n + 1) * block_k)
  std::int64_t num_blocks;
  std::int32_t block_k;
  std::int64_t window_start;
  std::int64_t end;

  [[nodiscard]] std::int64_t count() const noexcept {
    return sink_end + num_blocks * block_k + std::max<std::int64_t>(0, end - window_start);
  }
};

/// Hands out attended positions tile by tile.
class KeyCursor {
 public:
  explicit KeyCursor(const AttendedKeys& keys) noexcept : keys_(keys) {}

  /// Writes the next positions, at most kTileKeys; returns how many, 0 at the end.
  int next(std::int32_t* positions) noexcept {
    int n = 0;
    while (n < kTileKeys) {
      if (position_ == run_end_ && !next_run()) break;
      const std::int64_t take = std::min<std::int64_t>(kTileKeys - n, run_end_ - position_);
      for (std::int64_t i = 0; i < take; ++i) {
        positions[n++] = static_cast<std::int32_t>(position_ + i);
      }
      position_ += take;
    }
    return n;
  }

 private:
  bool next_run() noexcept {
    while (run_ <= keys_.num_blocks + 1) {
      const std::int64_t run = run_++;
      if (run == 0) {
        position_ = 0;
        run_end_ = keys_.sink_end;
      } else if (run <= keys_.num_blocks) {
        position_ = static_cast<std::int64_t>(keys_.blocks[run - 1]) * keys_.block_k;
        run_end_ = position_ + keys_.block_k;
      } else {
        position_ = keys_.window_start;
        run_end_ = std::max(keys_.window_start, keys_.end);
      }
      if (position_ < run_end_) return true;
    }
    position_ = run_end_;
    return false;
  }

  AttendedKeys keys_;
  std::int64_t run_ = 0;
  std::int64_t position_ = 0;
  std::int64_t run_end_ = 0;
};

/// Fills memory.out, max and sum for all panels of a unit whose first row stands at position p0.
/// panels: the unit's query rows, from pool_queries with stride 1.
template <typename T>
void attend(const TileKernels& kernels, const KvRows<T>& kv, const AttendedKeys& keys,
            const float* panels, const UnitQueries<T>& queries, std::int64_t p0, LogitRule rule,
            const AttendMemory& memory) {
  const std::int64_t num_rows = queries.rows * queries.group;
  const std::int64_t panel_count = num_panels(num_rows);
  const std::int64_t panel_size = queries.head_dim * kLanes;
  std::fill(memory.out, memory.out + panel_count * panel_size, 0.f);
  std::fill(memory.max, memory.max + panel_count * kLanes, -std::numeric_limits<float>::infinity());
  std::fill(memory.sum, memory.sum + panel_count * kLanes, 0.f);

  KeyCursor cursor(keys);
  std::int32_t positions[kTileKeys];
  const T* key_rows[kTileKeys];
  const T* value_rows[kTileKeys];
  while (const int n = cursor.next(positions)) {
    kv.find(positions, n, key_rows, value_rows);
    load_rows(kernels, key_rows, n, memory.keys);
    load_rows(kernels, value_rows, n, memory.values);
    const bool causal_tile = positions[n - 1] > p0;  // some row does not see every key
    for (std::int64_t panel = 0; panel < panel_count; ++panel) {
      alignas(kTileAlignment) std::int32_t visible[kLanes];
      if (causal_tile) {
        for (int lane = 0; lane < kLanes; ++lane) {
          const std::int64_t row = std::min(panel * kLanes + lane, num_rows - 1) / queries.group;
          visible[lane] = static_cast<std::int32_t>(
              std::upper_bound(positions, positions + n, p0 + row) - positions);
        }
      }
      const SoftmaxState state{memory.max + panel * kLanes, memory.sum + panel * kLanes,
                               memory.rescale};
      kernels.dot(memory.keys, panels + panel * panel_size, n, memory.scores);
      kernels.softmax(memory.scores, n, causal_tile ? visible : nullptr, rule, state);
      kernels.accumulate(memory.values, memory.scores, n, causal_tile, memory.rescale,
                         memory.out + panel * panel_size);
    }
  }
}

/// Writes row `lane_row` of what attend() left to out [D], normalised, and returns its lse.
template <typename T>
float finish_row(const AttendMemory& memory, std::int64_t lane_row, std::int64_t head_dim, T* out) {
  const float* lane = memory.out + lane_row / kLanes * head_dim * kLanes + lane_row % kLanes;
  const float sum = memory.sum[lane_row];
  if (sum == 0.f) {  // nothing attended
    std::fill(out, out + head_dim, from_float<T>(0.f));
    return -std::numeric_limits<float>::infinity();
  }
  for (std::int64_t d = 0; d < head_dim; ++d) out[d] = from_float<T>(lane[d * kLanes] / sum);
  return memory.max[lane_row] + std::log(sum);
}

}  // namespace hip_attn::cpu
