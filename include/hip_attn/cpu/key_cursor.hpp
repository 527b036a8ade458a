/// The keys that a unit attends to, tile by tile.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/core/attended_keys.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

/// Hands out keys [first, last) of the list as positions.
class KeyCursor {
 public:
  KeyCursor(const AttendedKeys& keys, std::int64_t first, std::int64_t last) noexcept
      : keys_(keys),
        next_(static_cast<std::int32_t>(first)),
        last_(static_cast<std::int32_t>(last)) {}

  /// Writes the next positions, at most kTileKeys; returns how many, 0 at the end.
  int next(std::int32_t* positions) noexcept {
    int n = 0;
    while (n < kTileKeys && next_ < last_) {
      const std::int32_t position = keys_.position(next_);
      const std::int32_t take = std::min({kTileKeys - n, last_ - next_, keys_.run_length(next_)});
      for (std::int32_t i = 0; i < take; ++i) positions[n++] = position + i;
      next_ += take;
    }
    return n;
  }

 private:
  AttendedKeys keys_;
  std::int32_t next_;
  std::int32_t last_;
};

}  // namespace hip_attn::cpu
