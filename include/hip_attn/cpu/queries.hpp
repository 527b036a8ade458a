/// Query rows of one unit, laid out in panels: as they are for attention, pooled for the search.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/cpu/tile_kernels.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cpu {

/// The query rows of one unit: `rows` positions of `group` query heads that share a KV head.
template <typename T>
struct UnitQueries {
  const T* data;  ///< row 0, first query head of the group
  std::int64_t row_stride;
  std::int64_t head_stride;
  std::int64_t head_dim;
  std::int64_t rows;
  std::int64_t group;
  std::int64_t group_anchor;  ///< position of row 0 counted from where pooling groups start
};

constexpr std::int64_t num_panels(std::int64_t query_rows) noexcept {
  return (query_rows + kLanes - 1) / kLanes;
}

/// Writes the mean of every `query_stride` positions (those that are present, summed in fp32 and
/// rounded to T) of every query head into panels; stride 1 copies. Lane order: position group, then
/// head. Unused lanes of the last panel repeat lane 0's row of that panel, which changes no
/// maximum. Returns the number of pooled rows.
template <typename T>
std::int64_t pool_queries(const UnitQueries<T>& queries, std::int64_t query_stride, float* panels) {
  std::int64_t pooled_rows = 0;
  std::int64_t row = 0;
  while (row < queries.rows) {
    const std::int64_t next_group =
        ((queries.group_anchor + row) / query_stride + 1) * query_stride;
    const std::int64_t end = std::min(queries.rows, next_group - queries.group_anchor);
    for (std::int64_t head = 0; head < queries.group; ++head, ++pooled_rows) {
      float* lane =
          panels + pooled_rows / kLanes * queries.head_dim * kLanes + pooled_rows % kLanes;
      const T* first = queries.data + row * queries.row_stride + head * queries.head_stride;
      for (std::int64_t d = 0; d < queries.head_dim; ++d) {
        float sum = 0.f;
        for (std::int64_t i = 0; i < end - row; ++i)
          sum += to_float(first[i * queries.row_stride + d]);
        lane[d * kLanes] = to_float(from_float<T>(sum / static_cast<float>(end - row)));
      }
    }
    row = end;
  }
  const std::int64_t padded = num_panels(pooled_rows) * kLanes;
  if (padded > pooled_rows) {
    float* panel = panels + pooled_rows / kLanes * queries.head_dim * kLanes;
    for (std::int64_t d = 0; d < queries.head_dim; ++d) {
      for (std::int64_t lane = pooled_rows % kLanes; lane < kLanes; ++lane) {
        panel[d * kLanes + lane] = panel[d * kLanes];
      }
    }
  }
  return pooled_rows;
}

}  // namespace hip_attn::cpu
