/// One call of prefill or decode in a device's memory, every array between guards and every output
/// filled with what no run writes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "device_buffer.hpp"
#include "hip_attn/hip_attn.hpp"
#include "landmark_memory.hpp"
#include "memory.hpp"
#include "problem.hpp"

namespace hip_attn::test {

/// Fills what a selection does not hold, so that a test sees what was written.
inline constexpr std::int32_t kUntouched = -1234567;

/// Landmarks of the levels that a config reads. They are bounds, which are exact like the keys of
/// Values::kExact.
inline LandmarkLayout exact_landmarks() { return {.chunk_sizes = {}, .spread = 1.f}; }

/// A layout that says nothing of levels has those of the config.
inline LandmarkLayout with_levels_of(const HipConfig& config, LandmarkLayout layout) {
  if (layout.chunk_sizes.empty()) layout.chunk_sizes = landmark_chunk_sizes(config);
  return layout;
}

/// A BlockSelection in host memory.
struct HostSelection {
  std::int64_t rows = 0;
  std::int64_t kv_heads = 0;
  std::int64_t max_blocks = 0;
  std::vector<std::int32_t> blocks;
  std::vector<std::int32_t> counts;
  std::vector<std::int32_t> window_start;

  HostSelection() = default;
  HostSelection(std::int64_t rows_, std::int64_t kv_heads_, std::int64_t max_blocks_)
      : rows(rows_),
        kv_heads(kv_heads_),
        max_blocks(max_blocks_),
        blocks(rows_ * kv_heads_ * max_blocks_, kUntouched),
        counts(rows_ * kv_heads_, kUntouched),
        window_start(rows_ * kv_heads_, kUntouched) {}

  [[nodiscard]] bool written(std::int64_t row, std::int64_t head) const {
    return counts[row * kv_heads + head] != kUntouched;
  }
  [[nodiscard]] std::int64_t w0(std::int64_t row, std::int64_t head) const {
    return window_start[row * kv_heads + head];
  }
  [[nodiscard]] std::vector<std::int32_t> unit(std::int64_t row, std::int64_t head) const {
    const auto first = blocks.begin() + (row * kv_heads + head) * max_blocks;
    return {first, first + counts[row * kv_heads + head]};
  }
  void set_unit(std::int64_t row, std::int64_t head, std::int64_t w0,
                const std::vector<std::int32_t>& selected) {
    counts[row * kv_heads + head] = static_cast<std::int32_t>(selected.size());
    window_start[row * kv_heads + head] = static_cast<std::int32_t>(w0);
    std::copy(selected.begin(), selected.end(),
              blocks.begin() + (row * kv_heads + head) * max_blocks);
  }
};

/// A HostSelection in a device's memory.
class SelectionMemory {
 public:
  SelectionMemory(Device device, const HostSelection& host)
      : rows_(host.rows),
        kv_heads_(host.kv_heads),
        max_blocks_(host.max_blocks),
        blocks_(device, host.blocks),
        counts_(device, host.counts),
        window_start_(device, host.window_start) {}

  [[nodiscard]] BlockSelection view() const {
    return {TensorView<std::int32_t, 3>(blocks_.data(), {rows_, kv_heads_, max_blocks_}),
            TensorView<std::int32_t, 2>(counts_.data(), {rows_, kv_heads_}),
            TensorView<std::int32_t, 2>(window_start_.data(), {rows_, kv_heads_})};
  }
  [[nodiscard]] HostSelection read() const {
    HostSelection host(rows_, kv_heads_, max_blocks_);
    host.blocks = blocks_.read();
    host.counts = counts_.read();
    host.window_start = window_start_.read();
    return host;
  }
  [[nodiscard]] bool guards_intact() const {
    return blocks_.guards_intact() && counts_.guards_intact() && window_start_.guards_intact();
  }

 private:
  std::int64_t rows_;
  std::int64_t kv_heads_;
  std::int64_t max_blocks_;
  DeviceBuffer<std::int32_t> blocks_;
  DeviceBuffer<std::int32_t> counts_;
  DeviceBuffer<std::int32_t> window_start_;
};

template <TestedTypes P>
struct RunResult {
  std::vector<QueryType<P>> out;  ///< [total_q, Hq, D]
  std::vector<float> lse;         ///< [total_q, Hq]
  HostSelection selection;
  std::vector<std::int64_t> counters;  ///< [num_stages + 2]
};

/// The arguments' memory of one call. Tests of bad input take args() and break it.
template <TestedTypes P>
class CallMemory {
 public:
  CallMemory(const AttentionPlan& plan, const Problem<P>& problem, const MemoryLayout& layout,
             const LandmarkLayout& landmarks = exact_landmarks())
      : device_(plan.shape.device),
        kv_(device_, problem, layout),
        landmarks_(device_, problem, with_levels_of(plan.config, landmarks)),
        q_(device_, problem.total_q(), problem.heads, layout.row_padding),
        out_(device_, problem.total_q(), problem.heads, 2 * layout.row_padding),
        lse_(device_, std::max<std::int64_t>(1, problem.total_q()) * problem.heads.num_q_heads,
             kNaN),
        seq_lens_(device_, seq_lens(problem)),
        cu_seqlens_(device_, cu_seqlens(problem)),
        selection_(device_, HostSelection(plan.selection_rows, problem.heads.num_kv_heads,
                                          plan.max_selected_blocks)),
        counters_(device_, plan.config.num_stages() + 2, kCountersBefore),
        workspace_(device_, static_cast<std::int64_t>(plan.workspace_bytes), std::byte{0xff}) {
    q_.write(problem);
    args_.q = q_.view();
    if (layout.request_rows > 0) {
      batch_.emplace(device_, problem, layout.request_rows, layout.row_padding);
      args_.q = batch_->view();
      args_.q_request_stride = batch_->request_stride();
    }
    args_.kv = kv_.view();
    landmarks_.write_reference(problem);
    if (plan.config.uses_landmarks()) args_.landmarks = landmarks_.view();
    args_.seq_lens = {seq_lens_.data(), {problem.batch()}};
    args_.cu_seqlens_q = {cu_seqlens_.data(), {problem.batch() + 1}};
    args_.out = out_.view();
    args_.lse = TensorView<float, 2>(lse_.data(), {problem.total_q(), problem.heads.num_q_heads});
    args_.selection_out = selection_.view();
    args_.counters = TensorView<std::int64_t, 1>(counters_.data(), {counters_.size()});
  }

  [[nodiscard]] ArgumentsOf<P>& args() { return args_; }
  [[nodiscard]] const KvMemory<P>& kv() const { return kv_; }
  [[nodiscard]] LandmarkMemory<P>& landmarks() { return landmarks_; }
  [[nodiscard]] const LandmarkMemory<P>& landmarks() const { return landmarks_; }
  [[nodiscard]] Workspace workspace() const {
    return {workspace_.data(), static_cast<std::size_t>(workspace_.size())};
  }

  [[nodiscard]] RunResult<P> read() const {
    std::vector<std::int64_t> counters = counters_.read();
    for (std::int64_t& counter : counters) counter -= kCountersBefore;
    std::vector<float> lse = lse_.read();
    lse.resize(args_.lse->sizes[0] * args_.lse->sizes[1]);
    return {out_.read(), lse, selection_.read(), counters};
  }
  [[nodiscard]] bool untouched_around_outputs() const {
    return kv_.guards_intact() && landmarks_.guards_intact() && q_.padding_intact() &&
           out_.padding_intact() && lse_.guards_intact() && seq_lens_.guards_intact() &&
           cu_seqlens_.guards_intact() && selection_.guards_intact() && counters_.guards_intact() &&
           workspace_.guards_intact();
  }

 private:
  // Counters are added to, not set.
  static constexpr std::int64_t kCountersBefore = 1000;

  static std::vector<std::int32_t> seq_lens(const Problem<P>& problem) {
    std::vector<std::int32_t> lengths;
    for (const auto& request : problem.requests) {
      lengths.push_back(static_cast<std::int32_t>(request.seq_len));
    }
    return lengths;
  }
  static std::vector<std::int32_t> cu_seqlens(const Problem<P>& problem) {
    std::vector<std::int32_t> rows;
    for (std::int64_t b = 0; b <= problem.batch(); ++b) {
      rows.push_back(static_cast<std::int32_t>(problem.first_row(b)));
    }
    return rows;
  }

  Device device_;
  KvMemory<P> kv_;
  LandmarkMemory<P> landmarks_;
  RowMemory<QueryType<P>> q_;
  std::optional<BatchMemory<QueryType<P>>> batch_;
  RowMemory<QueryType<P>> out_;
  DeviceBuffer<float> lse_;
  DeviceBuffer<std::int32_t> seq_lens_;
  DeviceBuffer<std::int32_t> cu_seqlens_;
  SelectionMemory selection_;
  DeviceBuffer<std::int64_t> counters_;
  DeviceBuffer<std::byte> workspace_;
  ArgumentsOf<P> args_;
};

template <TestedTypes P>
Status run_operator(const AttentionPlan& plan, const ArgumentsOf<P>& args, Workspace workspace) {
  return plan.op == Operator::kPrefill ? run_prefill(plan, args, workspace)
                                       : run_decode(plan, args, workspace);
}

}  // namespace hip_attn::test
