/// The scorer of a unit's search: its pooled query rows against keys of the cache and landmarks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hip_attn/cpu/attend.hpp"
#include "hip_attn/cpu/kv_rows.hpp"
#include "hip_attn/cpu/landmark_rows.hpp"
#include "hip_attn/cpu/queries.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

static_assert(kScanBatchKeys <= kTileKeys);

template <Element C>
class UnitScorer {
 public:
  /// queries: `num_rows` rows that pool_queries wrote in the layout of the unit's rows. For a
  /// landmark stage also its landmarks, and the rows' positive and negative parts.
  UnitScorer(const TileKernels& kernels, const KvRows<C>& kv, const float* queries,
             const RowLayout& layout, std::int64_t num_rows, const TileMemory& tile,
             const LandmarkRows<C>* landmarks = nullptr, const QueryParts& parts = {}) noexcept
      : kernels_(kernels),
        kv_(kv),
        queries_(queries),
        layout_(layout),
        num_rows_(num_rows),
        tile_(tile),
        landmarks_(landmarks),
        parts_(parts) {}

  [[nodiscard]] std::int64_t num_rows() const noexcept { return num_rows_; }

  /// a[i] = the largest of all rows' products with the key at positions[i].
  void maxima(const std::int32_t* positions, int n, float* a) const {
    const C* keys[kTileKeys];
    kv_.find(positions, n, keys, nullptr);
    if (layout_.is_few()) {
      dot_rows(keys, n, queries_, tile_.scores);
      kernels_.max_of_rows(tile_.scores, static_cast<int>(num_rows_), n, a);
      return;
    }
    kernels_.template of<C>().load(keys, n, tile_.keys);
    std::fill(tile_.best, tile_.best + n * kLanes, -std::numeric_limits<float>::infinity());
    for (std::int64_t panel = 0; panel < num_panels(num_rows_); ++panel) {
      dot_panel(tile_.keys, panel, n, queries_, tile_.scores);
      kernels_.lane_max(tile_.scores, n, tile_.best);
    }
    kernels_.reduce_max(tile_.best, n, a);
  }

  /// out[r * kScanBatchKeys + i] = the product of row r with the key at positions[i].
  void products(const std::int32_t* positions, int n, float* out) const {
    const C* keys[kTileKeys];
    kv_.find(positions, n, keys, nullptr);
    if (layout_.is_few()) {
      dot_rows(keys, n, queries_, tile_.scores);
      return hand_out_rows(n, out);
    }
    kernels_.template of<C>().load(keys, n, tile_.keys);
    for (std::int64_t panel = 0; panel < num_panels(num_rows_); ++panel) {
      dot_panel(tile_.keys, panel, n, queries_, tile_.scores);
      hand_out_panel(panel, n, out);
    }
  }

  /// The same for the landmarks of the chunks that begin at first_keys:
  /// the sum over d of max(q_d * hi_d, q_d * lo_d).
  void landmark_products(const std::int32_t* first_keys, int n, float* out) const {
    const C* hi[kTileKeys];
    const C* lo[kTileKeys];
    landmarks_->find(first_keys, n, hi, lo);
    float* const of_lo = tile_.best;
    if (layout_.is_few()) {
      dot_rows(hi, n, parts_.positive, tile_.scores);
      dot_rows(lo, n, parts_.negative, of_lo);
      for (std::int64_t r = 0; r < num_rows_; ++r) {
        for (int i = 0; i < n; ++i) tile_.scores[r * kTileKeys + i] += of_lo[r * kTileKeys + i];
      }
      return hand_out_rows(n, out);
    }
    kernels_.template of<C>().load(hi, n, tile_.keys);
    kernels_.template of<C>().load(lo, n, tile_.values);
    for (std::int64_t panel = 0; panel < num_panels(num_rows_); ++panel) {
      dot_panel(tile_.keys, panel, n, parts_.positive, tile_.scores);
      dot_panel(tile_.values, panel, n, parts_.negative, of_lo);
      for (int i = 0; i < n * kLanes; ++i) tile_.scores[i] += of_lo[i];
      hand_out_panel(panel, n, out);
    }
  }

 private:
  static_assert(kFewRows <= kLanes);  // TileMemory::best holds scores as well

  void dot_rows(const C* const* keys, int n, const float* queries, float* scores) const {
    prefetch_rows(keys, n, layout_.head_dim);
    kernels_.template of<C>().dot_rows(keys, n, queries, static_cast<int>(num_rows_), scores);
  }
  void dot_panel(const float* keys, std::int64_t panel, int n, const float* queries,
                 float* scores) const {
    kernels_.dot(keys, queries + panel * kLanes * layout_.head_dim, n, scores);
  }

  void hand_out_rows(int n, float* out) const {
    for (std::int64_t r = 0; r < num_rows_; ++r) {
      std::copy_n(tile_.scores + r * kTileKeys, n, out + r * kScanBatchKeys);
    }
  }
  void hand_out_panel(std::int64_t panel, int n, float* out) const {
    const std::int64_t first = panel * kLanes;
    const std::int64_t lanes = std::min<std::int64_t>(kLanes, num_rows_ - first);
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      for (int i = 0; i < n; ++i) {
        out[(first + lane) * kScanBatchKeys + i] = tile_.scores[i * kLanes + lane];
      }
    }
  }

  const TileKernels& kernels_;
  const KvRows<C>& kv_;
  const float* queries_;
  RowLayout layout_;
  std::int64_t num_rows_;
  TileMemory tile_;
  const LandmarkRows<C>* landmarks_;
  QueryParts parts_;
};

}  // namespace hip_attn::cpu
