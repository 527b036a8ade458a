/// The keys that a unit attends to (docs/guide/algorithm.md, "What a row attends to").
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

/// In ascending order: [0, sink_end), the blocks, [window_start, end).
struct AttendedKeys {
  std::int64_t sink_end;
  const std::int32_t*
      blocks;  ///< block numbers: block n holds keys [n * block_k, (n + 1) * block_k)
  std::int64_t num_blocks;
  std::int32_t block_k;
  std::int64_t window_start;
  std::int64_t end;
  /// Keys of the window that one row sees at most; the largest number: no limit of its own.
  std::int64_t row_window = std::numeric_limits<std::int64_t>::max();

  [[nodiscard]] std::int64_t before_window() const noexcept {
    return sink_end + num_blocks * block_k;
  }
  [[nodiscard]] std::int64_t count() const noexcept {
    return before_window() + std::max<std::int64_t>(0, end - window_start);
  }

  /// The first key of the window that the row at position p sees.
  [[nodiscard]] std::int64_t row_window_start(std::int64_t p) const noexcept {
    return row_window > p ? window_start : std::max(window_start, p + 1 - row_window);
  }

  /// Those of them that the row at position p sees.
  [[nodiscard]] AttendedKeys until(std::int64_t p) const noexcept {
    AttendedKeys keys = *this;
    keys.end = p + 1;
    keys.sink_end = std::min(sink_end, keys.end);
    keys.window_start = row_window_start(p);
    return keys;
  }
};

/// Hands out keys [first, last) of the list tile by tile, as positions.
class KeyCursor {
 public:
  KeyCursor(const AttendedKeys& keys, std::int64_t first, std::int64_t last) noexcept
      : keys_(keys), next_(first), last_(last) {}

  /// Writes the next positions, at most kTileKeys; returns how many, 0 at the end.
  int next(std::int32_t* positions) noexcept {
    int n = 0;
    while (n < kTileKeys && next_ < last_) {
      const auto [position, length] = run_at(next_);
      const std::int64_t take = std::min({std::int64_t{kTileKeys - n}, last_ - next_, length});
      for (std::int64_t i = 0; i < take; ++i) {
        positions[n++] = static_cast<std::int32_t>(position + i);
      }
      next_ += take;
    }
    return n;
  }

 private:
  struct Run {
    std::int64_t position;
    std::int64_t length;
  };

  /// The neighbouring positions from key `i` of the list on.
  [[nodiscard]] Run run_at(std::int64_t i) const noexcept {
    if (i < keys_.sink_end) return {i, keys_.sink_end - i};
    const std::int64_t in_window = i - keys_.before_window();
    if (in_window >= 0) return {keys_.window_start + in_window, last_ - i};
    const std::int64_t block = (i - keys_.sink_end) / keys_.block_k;
    const std::int64_t within = (i - keys_.sink_end) % keys_.block_k;
    return {std::int64_t{keys_.blocks[block]} * keys_.block_k + within, keys_.block_k - within};
  }

  AttendedKeys keys_;
  std::int64_t next_;
  std::int64_t last_;
};

}  // namespace hip_attn::cpu
