/// Runs prefill or decode on a Problem, on any device, and checks what every run must keep to: a
/// plan is made, the call succeeds in exactly the plan's workspace, nothing else is touched.
#pragma once

#include <optional>

#include "call.hpp"
#include "catch.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"

namespace hip_attn::test {

struct RunOptions {
  Device device = kCpu;
  MemoryLayout memory = {};
  LandmarkLayout landmarks = exact_landmarks();
  std::optional<float> scale = {};
  std::optional<float> logit_softcap = {};
  const HostSelection* selection = nullptr;  ///< given in
  std::optional<SelectionCache> cache = {};
  std::optional<AttentionShape> planned = {};  ///< absent: the problem's own sizes
  bool hopper = true;  ///< false: prefill by the kernels that every CUDA device has
  std::int64_t dense_until = 0;
};

/// A plan that searches from the first position on, whether or not that pays.
template <TestedTypes P>
AttentionPlan make_plan(Operator op, const HipConfig& config, const AttentionShape& shape) {
  AttentionPlan plan;
  const Status status = op == Operator::kPrefill
                            ? plan_prefill<QueryType<P>, CacheType<P>>(config, shape, plan)
                            : plan_decode<QueryType<P>, CacheType<P>>(config, shape, plan);
  INFO(status.message());
  REQUIRE(status.ok());
  plan.dense_until = 0;
  return plan;
}

template <TestedTypes P>
RunResult<P> run_attention(Operator op, const HipConfig& config, const Problem<P>& problem,
                           const RunOptions& options = {}) {
  AttentionPlan plan =
      make_plan<P>(op, config, options.planned.value_or(problem.shape(options.device)));
  if (op == Operator::kPrefill && !options.hopper) cuda::use_portable_kernels(plan);
  plan.dense_until = options.dense_until;
  CallMemory<P> memory(plan, problem, options.memory, options.landmarks);
  ArgumentsOf<P>& args = memory.args();
  args.scale = options.scale;
  args.logit_softcap = options.logit_softcap;
  args.cache = options.cache;
  std::optional<SelectionMemory> given;
  if (options.selection) args.selection = given.emplace(options.device, *options.selection).view();

  const Status status = run_operator<P>(plan, args, memory.workspace());
  INFO(status.message());
  REQUIRE(status.ok());
  REQUIRE(memory.untouched_around_outputs());
  REQUIRE((!given || given->guards_intact()));
  return memory.read();
}

}  // namespace hip_attn::test
