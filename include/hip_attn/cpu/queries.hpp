/// Query rows of one unit in fp32: as they are for attention, pooled for the search.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cpu {

constexpr std::int64_t num_panels(std::int64_t query_rows) noexcept {
  return (query_rows + kLanes - 1) / kLanes;
}

/// Where the rows of a unit, of its queries and of its outputs, lie: one after another where decode
/// has few of them, otherwise in panels (tile_kernels.hpp). In prefill, so that a row's result does
/// not depend on how many others are in its query block, always in panels.
struct RowLayout {
  std::int64_t num_rows;
  std::int64_t head_dim;
  Operator op;

  [[nodiscard]] constexpr bool is_few() const noexcept {
    return op == Operator::kDecode && num_rows <= kFewRows;
  }
  /// Rows with those that fill the last panel up.
  [[nodiscard]] constexpr std::int64_t padded_rows() const noexcept {
    return is_few() ? num_rows : num_panels(num_rows) * kLanes;
  }
  [[nodiscard]] constexpr std::int64_t size() const noexcept { return padded_rows() * head_dim; }
  /// Element d of row r is at offset(r) + d * step().
  [[nodiscard]] constexpr std::int64_t offset(std::int64_t row) const noexcept {
    return is_few() ? row * head_dim : row / kLanes * kLanes * head_dim + row % kLanes;
  }
  [[nodiscard]] constexpr std::int64_t step() const noexcept { return is_few() ? 1 : kLanes; }
};

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
  Operator op;

  [[nodiscard]] RowLayout layout() const noexcept { return {rows * group, head_dim, op}; }
};

/// The row of q that belongs to row `row` of out, which is of `request`.
template <Element T, StoredFor<T> C>
const T* query_row(const AttentionArgs<T, C>& args, std::int64_t request, std::int64_t row,
                   std::int64_t head) noexcept {
  if (!args.q_request_stride) return &args.q(row, head, 0);
  return &args.q(row - args.cu_seqlens_q(request), head, 0) + request * *args.q_request_stride;
}

/// Writes the mean of every `query_stride` positions (those that are present, summed in fp32 and
/// rounded to T) of every query head in the layout of the unit's rows; stride 1 copies. Order:
/// group of positions, then head. Unused lanes of the last panel repeat its first row, which
/// changes no maximum. Returns the number of pooled rows.
template <typename T>
std::int64_t pool_queries(const UnitQueries<T>& queries, std::int64_t query_stride, float* pooled) {
  const RowLayout layout = queries.layout();
  std::int64_t pooled_rows = 0;
  std::int64_t row = 0;
  while (row < queries.rows) {
    const std::int64_t next_group =
        ((queries.group_anchor + row) / query_stride + 1) * query_stride;
    const std::int64_t end = std::min(queries.rows, next_group - queries.group_anchor);
    for (std::int64_t head = 0; head < queries.group; ++head, ++pooled_rows) {
      float* to = pooled + layout.offset(pooled_rows);
      const T* first = queries.data + row * queries.row_stride + head * queries.head_stride;
      for (std::int64_t d = 0; d < queries.head_dim; ++d) {
        float sum = 0.f;
        for (std::int64_t i = 0; i < end - row; ++i)
          sum += to_float(first[i * queries.row_stride + d]);
        to[d * layout.step()] = to_float(from_float<T>(sum / static_cast<float>(end - row)));
      }
    }
    row = end;
  }
  if (layout.is_few()) return pooled_rows;
  for (std::int64_t lane = pooled_rows; lane < num_panels(pooled_rows) * kLanes; ++lane) {
    const float* first = pooled + layout.offset(lane / kLanes * kLanes);
    for (std::int64_t d = 0; d < queries.head_dim; ++d) {
      pooled[layout.offset(lane) + d * kLanes] = first[d * kLanes];
    }
  }
  return pooled_rows;
}

/// Query rows as max(q, 0) and min(q, 0), in the layout of the unit's rows.
struct QueryParts {
  float* positive = nullptr;
  float* negative = nullptr;
};

inline void split_queries(const float* queries, std::int64_t size, const QueryParts& parts) {
  for (std::int64_t i = 0; i < size; ++i) {
    parts.positive[i] = queries[i] > 0.f ? queries[i] : 0.f;
    parts.negative[i] = queries[i] > 0.f ? 0.f : queries[i];
  }
}

}  // namespace hip_attn::cpu
