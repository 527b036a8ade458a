/// Calls of make_index_selection in the memory of a device.
#pragma once

#include <cstdint>
#include <vector>

#include "call.hpp"
#include "catch.hpp"
#include "hip_attn/index_selection.hpp"
#include "problem.hpp"
#include "through_c.hpp"
#include "values.hpp"

namespace hip_attn::test {

/// [total_q, heads, top_k] for a problem.
struct Indices {
  std::int64_t heads;
  std::int64_t top_k;
  std::vector<std::int32_t> values;

  [[nodiscard]] const std::int32_t* row(std::int64_t query, std::int64_t head) const {
    return values.data() + (query * heads + (heads == 1 ? 0 : head)) * top_k;
  }
};

/// Blocks that the row sees, in no order, some twice and some absent, the row's own among them or
/// not.
template <TestedTypes P>
Indices random_indices(const Problem<P>& problem, std::int64_t granularity, std::int64_t heads,
                       std::int64_t top_k) {
  Indices indices{heads, top_k, {}};
  Choices choices(31 * granularity + heads);
  for (const Request<P>& request : problem.requests) {
    for (std::int64_t row = 0; row < request.q_len; ++row) {
      const std::int64_t own = (request.first_position() + row) / granularity;
      for (std::int64_t i = 0; i < heads * top_k; ++i) {
        const bool none = request.seq_len == 0 || choices.one_in(4);
        indices.values.push_back(none ? -1 : static_cast<std::int32_t>(choices.between(0, own)));
      }
    }
  }
  return indices;
}

/// The arguments of make_index_selection for a problem, in the memory of the plan's device.
class IndexCall {
 public:
  template <TestedTypes P>
  IndexCall(const AttentionPlan& plan, const Problem<P>& problem, const Indices& indices)
      : plan_(plan),
        indices_(plan.shape.device, indices.values),
        seq_lens_(plan.shape.device, seq_lens_of(problem)),
        cu_seqlens_(plan.shape.device, cu_seqlens_of(problem)),
        selection_(plan.shape.device,
                   HostSelection(plan.selection_rows, plan.shape.num_kv_heads, indices.top_k)) {
    args.indices = {indices_.data(), {problem.total_q(), indices.heads, indices.top_k}};
    args.seq_lens = {seq_lens_.data(), {problem.batch()}};
    args.cu_seqlens_q = {cu_seqlens_.data(), {problem.batch() + 1}};
    args.selection = selection_.view();
  }

  /// What was made. Nothing around it was touched.
  [[nodiscard]] HostSelection read() const {
    REQUIRE((indices_.guards_intact() && seq_lens_.guards_intact() && cu_seqlens_.guards_intact() &&
             selection_.guards_intact()));
    return selection_.read();
  }
  [[nodiscard]] HostSelection made() const {
    require_ok(make_index_selection(plan_, args));
    return read();
  }
  [[nodiscard]] HostSelection made_through_c() const {
    require_ok(make_index_selection_through_c(plan_, args));
    return read();
  }

  void write(const std::vector<std::int32_t>& indices, const std::vector<std::int32_t>& seq_lens) {
    indices_.write(indices);
    seq_lens_.write(seq_lens);
  }

  IndexSelectionArgs args;

 private:
  template <TestedTypes P>
  static std::vector<std::int32_t> seq_lens_of(const Problem<P>& problem) {
    std::vector<std::int32_t> seq_lens;
    for (const Request<P>& request : problem.requests) {
      seq_lens.push_back(static_cast<std::int32_t>(request.seq_len));
    }
    return seq_lens;
  }
  template <TestedTypes P>
  static std::vector<std::int32_t> cu_seqlens_of(const Problem<P>& problem) {
    std::vector<std::int32_t> cu_seqlens{0};
    for (const Request<P>& request : problem.requests) {
      cu_seqlens.push_back(cu_seqlens.back() + static_cast<std::int32_t>(request.q_len));
    }
    return cu_seqlens;
  }
  static void require_ok(const Status& status) {
    INFO(status.message());
    REQUIRE(status.ok());
  }

  AttentionPlan plan_;
  DeviceBuffer<std::int32_t> indices_;
  DeviceBuffer<std::int32_t> seq_lens_;
  DeviceBuffer<std::int32_t> cu_seqlens_;
  SelectionMemory selection_;
};

/// Behind its count a list holds anything.
inline void check_same(const HostSelection& a, const HostSelection& b) {
  CHECK(a.counts == b.counts);
  CHECK(a.window_start == b.window_start);
  for (std::int64_t row = 0; row < a.rows; ++row) {
    for (std::int64_t head = 0; head < a.kv_heads; ++head) {
      if (a.counts[row * a.kv_heads + head] > 0) CHECK(a.unit(row, head) == b.unit(row, head));
    }
  }
}

/// A plan for the device, whose kernels need not have been built for its types.
inline AttentionPlan plan_on(Device device, AttentionPlan plan) {
  plan.shape.device = device;
  return plan;
}

}  // namespace hip_attn::test
