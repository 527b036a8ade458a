// Float queries and outputs over a cache of 16-bit elements.
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

#if HIP_ATTN_BUILT_float
// The same numbers in a cache of floats.
template <Element C>
Problem<float> widened(const Problem<TypePair<float, C>>& problem) {
  Problem<float> result{problem.heads, {}};
  for (const auto& request : problem.requests) {
    Request<float> same{request.seq_len, request.q_len, request.heads, {}, {}, request.q};
    for (const C key : request.k) same.k.push_back(to_float(key));
    for (const C value : request.v) same.v.push_back(to_float(value));
    result.requests.push_back(same);
  }
  return result;
}

HIP_ATTN_TYPED_TEST_CASE("under float queries any cache gives the bits of its numbers as floats") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), presets::dense(), window_only_config());
  const std::int64_t group = GENERATE(1, 4, 7);  // rows one after another, and panels of them
  CAPTURE(op, group, describe(config));
  const auto problem = make_problem<TypePair<float, TestType>>(
      {2 * group, 2, least_head_dim()}, {{300, 5, 1}, {0, 2, 2}, {77, 8, 3}});
  const auto mixed = run_attention(op, config, problem);
  const auto floats = run_attention(op, config, widened(problem));
  CHECK(same_bits(mixed.out, floats.out));
  CHECK(same_bits(mixed.lse, floats.lse));
  CHECK(mixed.selection.blocks == floats.selection.blocks);
  CHECK(mixed.counters == floats.counters);
}

HIP_ATTN_TYPED_TEST_CASE("a plan for one type of cache refuses another") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  using Planned = TypePair<float, TestType>;
  const auto problem = make_problem<Planned>({4, 2, least_head_dim()}, {{60, 2, 1}});
  const AttentionPlan plan = make_plan<Planned>(op, small_config(), problem.shape(kCpu));
  CHECK(plan.type == ElementType::kFloat32);
  CHECK(plan.cache_type == kElementType<TestType>);
  CallMemory<Planned> memory(plan, problem, {});
  CHECK(run_operator<Planned>(plan, memory.args(), memory.workspace()).ok());

  const auto other = widened(problem);
  CallMemory<float> floats(plan, other, {});
  const Status status = run_operator<float>(plan, floats.args(), floats.workspace());
  if (plan.cache_type == ElementType::kFloat32) {
    CHECK(status.ok());
  } else {
    check_refused(status, StatusCode::kInvalidShape, {"plan", "q of float over a cache of float"});
  }
}
#endif

}  // namespace
}  // namespace hip_attn
