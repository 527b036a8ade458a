// Queries and outputs of floats over a 16-bit cache on CUDA: q is rounded as it is read, out is
// not. So a call is, to the bit, the one with rounded queries before its outputs were rounded.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/hip_attn.hpp"
#include "hip_attn_instantiations.hpp"
#include "support/backends.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"

namespace hip_attn {
namespace {

using namespace test;

template <Element C>
using FloatRows = TypePair<float, C>;

template <Element C>
Problem<C> with_rounded_queries(const Problem<FloatRows<C>>& problem) {
  Problem<C> rounded{problem.heads, {}};
  for (const auto& request : problem.requests) {
    std::vector<C> q(request.q.size());
    std::ranges::transform(request.q, q.begin(), [](float x) { return from_float<C>(x); });
    rounded.requests.push_back(
        {request.seq_len, request.q_len, request.heads, request.k, request.v, std::move(q)});
  }
  return rounded;
}

template <Element C>
std::vector<C> rounded(const std::vector<float>& values) {
  std::vector<C> result(values.size());
  std::ranges::transform(values, result.begin(), [](float x) { return from_float<C>(x); });
  return result;
}

template <TestedTypes P>
RunResult<P> run_planned(const AttentionPlan& plan, const Problem<P>& problem) {
  CallMemory<P> memory(plan, problem, {.row_padding = 8});
  const Status status = run_operator<P>(plan, memory.args(), memory.workspace());
  INFO(status.message());
  REQUIRE(status.ok());
  return memory.read();
}

template <Element C>
void require_rounding_alone_differs(Operator op, const HipConfig& config,
                                    const Problem<FloatRows<C>>& problem, bool portable) {
  const AttentionShape shape = problem.shape(cuda_device());
  AttentionPlan plan = make_plan<FloatRows<C>>(op, config, shape);
  if (portable) cuda::use_portable_kernels(plan);
  const auto floats = run_planned(plan, problem);
  // By as many thread blocks, because their number decides the order of sums.
  AttentionPlan sixteen_plan = make_plan<C>(op, config, shape);
  sixteen_plan.schedule = plan.schedule;
  sixteen_plan.workspace_bytes = plan.workspace_bytes;
  const auto sixteen = run_planned(sixteen_plan, with_rounded_queries<C>(problem));
  CHECK(same_bits(rounded<C>(floats.out), sixteen.out));
  CHECK(same_bits(floats.lse, sixteen.lse));
  CHECK(floats.selection.counts == sixteen.selection.counts);
  CHECK(floats.selection.window_start == sixteen.selection.window_start);
  CHECK(floats.selection.blocks == sixteen.selection.blocks);
  CHECK(floats.counters == sixteen.counters);
  // And there is something to round.
  CHECK(std::ranges::any_of(floats.out, [](float x) { return x != to_float(from_float<C>(x)); }));
}

[[maybe_unused]] HipConfig some_config(std::int64_t seed, int number) {
  if (number == 0) return presets::dense();
  if (number == 1) return presets::infinite_hip_5k();
  Choices choices(static_cast<std::uint64_t>(seed + 1000 * number));
  HipConfig config = random_config(choices, 3);
  config.max_first_chunks = 20000;  // landmarks of single keys of the longest request below
  return config;
}

#define REQUIRE_CUDA_CACHE_OF(C)                                                      \
  if (std::same_as<C, float>) HIP_ATTN_SKIP("the cache of float rows is of 16 bits"); \
  if (const Status device_status = check_device(cuda_device()); !device_status.ok())  \
  HIP_ATTN_SKIP(device_status.message())

HIP_ATTN_TYPED_TEST_CASE("CUDA prefill of float rows is that of rounded rows, not rounded") {
  using C = TestType;
  REQUIRE_CUDA_CACHE_OF(C);
  if constexpr (!std::same_as<C, float>) {
    const std::int64_t head_dim = GENERATE(from_range(head_dims()));
    const std::int64_t group = GENERATE(1, 3, 8);
    const HipConfig config = some_config(71 + head_dim + group, GENERATE(0, 1, 2, 3));
    CAPTURE(head_dim, group, describe(config));
    const auto problem = make_problem<FloatRows<C>>(
        {2 * group, 2, head_dim}, {{700, 90, 1}, {0, 2, 2}, {65, 65, 3}, {9000, 20, 4}});
    require_rounding_alone_differs<C>(Operator::kPrefill, config, problem, GENERATE(false, true));
  }
}

HIP_ATTN_TYPED_TEST_CASE("CUDA decode of float rows is that of rounded rows, not rounded") {
  using C = TestType;
  REQUIRE_CUDA_CACHE_OF(C);
  if constexpr (!std::same_as<C, float>) {
    const std::int64_t head_dim = GENERATE(from_range(head_dims()));
    const std::int64_t group = GENERATE(1, 3, 8, 16, 24);
    const HipConfig config = some_config(83 + head_dim + group, GENERATE(0, 1, 2, 3));
    CAPTURE(head_dim, group, describe(config));
    const auto problem = make_problem<FloatRows<C>>(
        {2 * group, 2, head_dim}, {{700, 4, 1}, {0, 1, 2}, {65, 1, 3}, {20000, 8, 4}});
    require_rounding_alone_differs<C>(Operator::kDecode, config, problem, true);
  }
}

}  // namespace
}  // namespace hip_attn
