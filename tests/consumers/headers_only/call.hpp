// A call of the CPU backend's templates on one request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "hip_attn/cpu/operators.hpp"
#include "problem.hpp"

template <typename Traits, hip_attn::Element C>
class CallOf {
 public:
  CallOf(hip_attn::Operator op, const hip_attn::HipConfig& config, const Problem<C>& problem)
      : op_(op), problem_(problem) {
    using namespace hip_attn;
    const AttentionShape shape{.total_q = problem.num_rows,
                               .max_seq_len = problem.num_keys,
                               .num_q_heads = kQueryHeads,
                               .num_kv_heads = kKvHeads,
                               .head_dim = kHeadDim,
                               .num_threads = 2};
    status = op == Operator::kDecode ? cpu::plan_decode<Traits, float, C>(config, shape, plan)
                                     : cpu::plan_prefill<Traits, float, C>(config, shape, plan);
    if (!status.ok()) return;
    out.assign(problem.q.size(), std::nanf(""));
    lse.assign(static_cast<std::size_t>(problem.num_rows * kQueryHeads), std::nanf(""));
    const auto units = static_cast<std::size_t>(plan.selection_rows * kKvHeads);
    blocks.assign(units * static_cast<std::size_t>(plan.max_selected_blocks), -1);
    counts.assign(units, -1);
    window_starts.assign(units, -1);
    counters.assign(config.stages.size() + 2, 0);
    workspace_.resize(plan.workspace_bytes);
    lengths_ = {static_cast<std::int32_t>(problem.num_keys)};
    cu_seqlens_q_ = {0, static_cast<std::int32_t>(problem.num_rows)};
  }

  [[nodiscard]] hip_attn::BlockSelection selection() {
    return {{blocks.data(), {plan.selection_rows, kKvHeads, plan.max_selected_blocks}},
            {counts.data(), {plan.selection_rows, kKvHeads}},
            {window_starts.data(), {plan.selection_rows, kKvHeads}}};
  }

  /// With a selection, attends to it and writes none. By other kernels than the plan's: refused.
  template <typename By = Traits>
  bool run(const std::optional<hip_attn::ConstBlockSelection>& given = {},
           const std::optional<hip_attn::SelectionCache>& cache = {}) {
    using namespace hip_attn;
    if (plan.workspace_bytes == 0) return false;  // there is none
    AttentionArgs<float, C> args;
    args.q = {problem_.q.data(), {problem_.num_rows, kQueryHeads, kHeadDim}};
    args.kv = contiguous_kv<C>(problem_.k.data(), problem_.v.data(), 1, problem_.num_keys, kKvHeads,
                               kHeadDim);
    args.seq_lens = {lengths_.data(), {1}};
    args.cu_seqlens_q = {cu_seqlens_q_.data(), {2}};
    args.out = {out.data(), {problem_.num_rows, kQueryHeads, kHeadDim}};
    args.lse = {{lse.data(), {problem_.num_rows, kQueryHeads}}};
    args.counters = {{counters.data(), {static_cast<std::int64_t>(counters.size())}}};
    if (given) {
      args.selection = given;
    } else {
      args.selection_out = selection();
    }
    args.cache = cache;
    status = op_ == Operator::kDecode ? cpu::run_decode<By>(plan, args, workspace_)
                                      : cpu::run_prefill<By>(plan, args, workspace_);
    return status.ok();
  }

  hip_attn::AttentionPlan plan;
  hip_attn::Status status;
  std::vector<float> out, lse;
  std::vector<std::int32_t> blocks, counts, window_starts;
  std::vector<std::int64_t> counters;

 private:
  hip_attn::Operator op_;
  const Problem<C>& problem_;
  std::vector<std::int32_t> lengths_, cu_seqlens_q_;
  std::vector<std::byte> workspace_;
};
