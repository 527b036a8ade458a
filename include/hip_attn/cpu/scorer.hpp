/// The scorer of a unit's search: its pooled query rows against keys of the cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hip_attn/cpu/attend.hpp"
#include "hip_attn/cpu/kv_rows.hpp"
#include "hip_attn/cpu/queries.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

static_assert(kScanBatchKeys <= kTileKeys);

template <Element C>
class UnitScorer {
 public:
  /// queries: `num_rows` rows that pool_queries wrote in the layout of the unit's rows.
  UnitScorer(const TileKernels& kernels, const KvRows<C>& kv, const float* queries,
             const RowLayout& layout, std::int64_t num_rows, const TileMemory& tile) noexcept
      : kernels_(kernels),
        kv_(kv),
        queries_(queries),
        layout_(layout),
        num_rows_(num_rows),
        tile_(tile) {}

  [[nodiscard]] std::int64_t num_rows() const noexcept { return num_rows_; }

  /// a[i] = the largest of all rows' products with the key at positions[i].
  void maxima(const std::int32_t* positions, int n, float* a) const {
    const C* keys[kTileKeys];
    kv_.find(positions, n, keys, nullptr);
    if (layout_.is_few()) {
      dot_rows(keys, n);
      kernels_.max_of_rows(tile_.scores, static_cast<int>(num_rows_), n, a);
      return;
    }
    kernels_.template of<C>().load(keys, n, tile_.keys);
    std::fill(tile_.best, tile_.best + n * kLanes, -std::numeric_limits<float>::infinity());
    for (std::int64_t panel = 0; panel < num_panels(num_rows_); ++panel) {
      dot_panel(panel, n);
      kernels_.lane_max(tile_.scores, n, tile_.best);
    }
    kernels_.reduce_max(tile_.best, n, a);
  }

  /// out[r * kScanBatchKeys + i] = the product of row r with the key at positions[i].
  void products(const std::int32_t* positions, int n, float* out) const {
    const C* keys[kTileKeys];
    kv_.find(positions, n, keys, nullptr);
    if (layout_.is_few()) {
      dot_rows(keys, n);
      for (std::int64_t r = 0; r < num_rows_; ++r) {
        std::copy_n(tile_.scores + r * kTileKeys, n, out + r * kScanBatchKeys);
      }
      return;
    }
    kernels_.template of<C>().load(keys, n, tile_.keys);
    for (std::int64_t panel = 0; panel < num_panels(num_rows_); ++panel) {
      dot_panel(panel, n);
      const std::int64_t first = panel * kLanes;
      const std::int64_t lanes = std::min<std::int64_t>(kLanes, num_rows_ - first);
      for (std::int64_t lane = 0; lane < lanes; ++lane) {
        for (int i = 0; i < n; ++i) {
          out[(first + lane) * kScanBatchKeys + i] = tile_.scores[i * kLanes + lane];
        }
      }
    }
  }

 private:
  void dot_rows(const C* const* keys, int n) const {
    prefetch_rows(keys, n, layout_.head_dim);
    kernels_.template of<C>().dot_rows(keys, n, queries_, static_cast<int>(num_rows_),
                                       tile_.scores);
  }
  void dot_panel(std::int64_t panel, int n) const {
    kernels_.dot(tile_.keys, queries_ + panel * kLanes * layout_.head_dim, n, tile_.scores);
  }

  const TileKernels& kernels_;
  const KvRows<C>& kv_;
  const float* queries_;
  RowLayout layout_;
  std::int64_t num_rows_;
  TileMemory tile_;
};

}  // namespace hip_attn::cpu
