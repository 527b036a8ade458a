// A reduction with a state for every row, as a softmax has: the searches of prefill and decode,
// instantiated with it, against float64.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "device/built_traits.cuh"
#include "device/device_test.cuh"
#include "device/sum_reference.hpp"
#include "hip_attn/cuda/launch/decode.cuh"
#include "hip_attn/cuda/launch/prefill.cuh"
#include "hip_attn/operator_checks.hpp"
#include "support/attention_oracle.hpp"
#include "support/call.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/reference.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = BuiltElement;

/// The reduction of sum_reference.hpp.
struct SumOfExponentials {
  static constexpr bool kNeedsRowState = true;
  static constexpr float kNothing = 0.f;
  static constexpr float kNoState = -__builtin_inff();

  __device__ SumOfExponentials(float scale_log2, float /*softcap_log2*/)
      : scale_log2_(scale_log2) {}

  /// *state is the largest logit so far. As integers, floats ascend where they are positive and
  /// descend where they are negative.
  __device__ void observe(float* state, float logit) const {
    const float x = logit + 0.f;  // -0 becomes 0
    if (x >= 0.f) {
      atomicMax(reinterpret_cast<int*>(state), __float_as_int(x));
    } else {
      atomicMin(reinterpret_cast<unsigned*>(state), __float_as_uint(x));
    }
  }
  __device__ static float merge_states(float a, float b) { return fmaxf(a, b); }
  __device__ float score(float logit, float state) const {
    return exp2f((logit - state) * scale_log2_);
  }
  __device__ static float merge(float a, float b) { return a + b; }

 private:
  float scale_log2_;
};

struct SumTraits : BuiltTraits {
  using Rules = cuda::RuleList<cuda::CentreRule, cuda::CentreRule>;
  using Reduction = SumOfExponentials;
};

/// How far a score in fp32 may be from that in float64, relative to it: a logit errs by a few
/// 1e-5, of which 1 / sqrt(D) reaches the exponent, and up to 512 rows are summed.
constexpr double kError = 5e-5;

/// Every row counts once.
double once(std::size_t /*row*/, std::size_t /*rows*/) { return 1; }

/// Visits every unit of a call.
template <typename Visit>
void for_each_unit(Operator op, const HipConfig& config, const Problem<T>& problem, Visit&& visit) {
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) visit(block, head);
  }
}

/// What the GPU selected is what the reference selects, but for chunks whose scores are the same to
/// rounding.
void check_unit(const HipConfig& config, const ExpectedSelection& expected, std::int64_t w0,
                const std::vector<std::int32_t>& blocks) {
  CHECK(w0 == expected.w0);
  REQUIRE(blocks.size() == expected.blocks.size());
  CHECK(std::is_sorted(blocks.begin(), blocks.end()));
  std::vector<std::int32_t> instead;
  std::set_difference(blocks.begin(), blocks.end(), expected.blocks.begin(), expected.blocks.end(),
                      std::back_inserter(instead));
  std::vector<std::int32_t> missing;
  std::set_difference(expected.blocks.begin(), expected.blocks.end(), blocks.begin(), blocks.end(),
                      std::back_inserter(missing));
  REQUIRE(instead.size() == missing.size());
  for (const std::int32_t block : instead) {
    CAPTURE(config.block_k(), block);
    REQUIRE(expected.scores.count(block) == 1);  // the stage before kept it
    for (const std::int32_t other : missing) {
      CAPTURE(other);
      const double score = expected.scores.at(other);
      CHECK(score - expected.scores.at(block) <= 2 * kError * score);
    }
  }
}

void check_result(Operator op, const HipConfig& config, const Problem<T>& problem,
                  const RunResult<T>& result) {
  std::vector<std::int64_t> key_reads(config.stages.size(), 0);
  for_each_unit(op, config, problem, [&](const QueryBlock& block, std::int64_t head) {
    CAPTURE(block.request, block.p0, head);
    const ExpectedSelection expected = expected_selection(op, config, problem, block, head, once);
    REQUIRE(result.selection.counts[block.selection_row * problem.heads.num_kv_heads + head] >= 0);
    check_unit(config, expected, result.selection.w0(block.selection_row, head),
               result.selection.unit(block.selection_row, head));
    for (std::size_t s = 0; s < key_reads.size(); ++s) key_reads[s] += expected.key_reads[s];
  });
  const std::vector<std::int64_t> counted(result.counters.begin(),
                                          result.counters.begin() + std::ssize(config.stages));
  CHECK(counted == key_reads);
}

// ---- The cases ----------------------------------------------------------------------------------

struct Case {
  std::string name;
  HipConfig config;
  std::int64_t group;
};

HipConfig one_stage() {
  HipConfig config;
  config.sink = 8;
  config.window = 24;
  config.block_q = 16;
  config.stages = {{8, 200, 1, ScanRule::kCentre}};
  return config;
}

/// Each stage pools rows in another way.
HipConfig two_stages() {
  HipConfig config = one_stage();
  config.stages = {{32, 256, 4, ScanRule::kCentre}, {4, 96, 1, ScanRule::kCentre}};
  return config;
}

/// More rows than the search has threads.
HipConfig many_rows() {
  HipConfig config = one_stage();
  config.block_q = 64;
  return config;
}

std::vector<Case> cases() {
  std::vector<Case> all = {{"many rows", many_rows(), 8}};
  for (const std::int64_t group : {1, 3, 8}) {
    const std::string heads = " with groups of " + std::to_string(group);
    all.push_back({"one stage" + heads, one_stage(), group});
    all.push_back({"two stages" + heads, two_stages(), group});
  }
  return all;
}

/// Tiles of query rows that are not full at the start, in the middle and at the end.
Problem<T> prefill_problem(const Case& of) {
  return make_problem<T>({2 * of.group, 2, kBuiltHeadDim},
                         {{900, 43, 1}, {30, 30, 2}, {611, 21, 3}});
}

Problem<T> decode_problem(const Case& of) {
  return make_problem<T>({2 * of.group, 2, kBuiltHeadDim},
                         {{900, 1, 4}, {1301, 5, 5}, {20, 2, 6}, {611, 8, 7}});
}

Problem<T> problem_of(Operator op, const Case& of) {
  return op == Operator::kPrefill ? prefill_problem(of) : decode_problem(of);
}

TEST_CASE("The cases of the second reduction tell right from wrong", "[device]") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  for (const Case& of : cases()) {
    CAPTURE(of.name, static_cast<int>(op));
    const Problem<T> problem = problem_of(op, of);
    int units_that_search = 0;
    std::map<int, int> differ;  // by the rows of a tile that is filled up with row 0
    int differ_from_maximum = 0;
    for_each_unit(op, of.config, problem, [&](const QueryBlock& block, std::int64_t head) {
      CAPTURE(block.request, block.p0, head);
      const ExpectedSelection expected =
          expected_selection(op, of.config, problem, block, head, once);
      CHECK(expected.least_gap > 2 * kError);
      units_that_search += expected.scores.empty() ? 0 : 1;
      for (const int tile : {8, 16, 64}) {
        const auto padded = [&](std::size_t row, std::size_t rows) {
          const std::size_t padding = (tile - rows % tile) % tile;
          return 1. + (row == 0 ? static_cast<double>(padding) : 0.);
        };
        const ExpectedSelection wrong =
            expected_selection(op, of.config, problem, block, head, padded);
        differ[tile] += wrong.blocks != expected.blocks ? 1 : 0;
      }
      const SearchResult maximum = reference_select(problem, block, head, op, of.config);
      differ_from_maximum += maximum.blocks != expected.blocks ? 1 : 0;
    });
    CHECK(units_that_search >= 4);
    // A single row is the same row however often it counts, and its maximum.
    if (of.group > 1 || op == Operator::kPrefill) {
      CHECK(differ_from_maximum > 0);
      CHECK(differ[64] > 0);
      if (of.group == 3) CHECK(differ[16] > 0);
    }
    if (of.group == 3 && op == Operator::kDecode) CHECK(differ[8] > 0);
  }
}

// ---- The kernels --------------------------------------------------------------------------------

void require_ok(const Status& status) {
  INFO(status.message());
  REQUIRE(status.ok());
}

AttentionPlan begin_plan(Operator op, const HipConfig& config, const Problem<T>& problem) {
  AttentionPlan plan;
  require_ok(detail::begin_plan({.op = op,
                                 .type = kElementType<T>,
                                 .cache_type = kElementType<T>,
                                 .head_dim = kBuiltHeadDim,
                                 .num_rules = SumTraits::Rules::kCount},
                                config, problem.shape(cuda_device()), plan));
  return plan;
}

/// The search alone, as a schedule says.
RunResult<T> run_prefill_search(const HipConfig& config, const Problem<T>& problem,
                                const cuda::PrefillSchedule& schedule) {
  AttentionPlan plan = begin_plan(Operator::kPrefill, config, problem);
  cuda::PrefillParams<T> unused{};
  plan.workspace_bytes = cuda::prefill_launch::carve<SumTraits>(plan, schedule, nullptr, unused);
  CallMemory<T> memory(plan, problem, {});
  const auto params = cuda::prefill_launch::make_params<SumTraits, T>(plan, schedule, memory.args(),
                                                                      memory.workspace().data());
  require_ok(cuda::prefill_launch::launch_search<SumTraits>(plan, schedule, params, nullptr));
  require_success(cudaDeviceSynchronize());
  REQUIRE(memory.untouched_around_outputs());
  return memory.read();
}

/// Readies a search kernel for a plan.
cuda::prefill_launch::SearchFit prepare(const cuda::prefill_launch::Search<SumTraits>& search,
                                        const AttentionPlan& plan) {
  cuda::prefill_launch::DeviceLimits limits;
  require_ok(cuda::prefill_launch::device_limits(cuda_device(), limits));
  cuda::prefill_launch::SearchFit fit;
  require_ok(cuda::prefill_launch::prepare_search(search, plan, limits.largest_shared, fit));
  return fit;
}

using PrefillSearches = cuda::prefill_launch::Searches<SumTraits>;

TEST_CASE("Prefill searches by a reduction with row states: mma.sync, in shared memory",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  for (const Case& of : cases()) {
    CAPTURE(of.name);
    const Problem<T> problem = prefill_problem(of);
    const AttentionPlan plan = begin_plan(Operator::kPrefill, of.config, problem);
    if (!prepare(PrefillSearches::kShared, plan).fits && of.name == "many rows") continue;
    check_result(Operator::kPrefill, of.config, problem,
                 run_prefill_search(of.config, problem, {}));
  }
}

TEST_CASE("Prefill searches by a reduction with row states: mma.sync, in the workspace",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const int blocks = GENERATE(1, 3, 100);  // fewer than units, or more
  CAPTURE(blocks);
  for (const Case& of : cases()) {
    CAPTURE(of.name);
    const Problem<T> problem = prefill_problem(of);
    cuda::PrefillSchedule schedule;
    schedule.search_blocks = blocks;
    check_result(Operator::kPrefill, of.config, problem,
                 run_prefill_search(of.config, problem, schedule));
  }
}

TEST_CASE("Prefill searches by a reduction with row states: wgmma, clusters of every size",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const int cluster = GENERATE(1, 2, 4, 8);
  CAPTURE(cluster);
  for (const Case& of : cases()) {
    CAPTURE(of.name);
    const Problem<T> problem = prefill_problem(of);
    const AttentionPlan plan = begin_plan(Operator::kPrefill, of.config, problem);
    if (!prepare(PrefillSearches::kSm90, plan).built)
      HIP_ATTN_SKIP("this build has no sm_90a code for this GPU");
    cuda::PrefillSchedule schedule;
    schedule.sm90_search = true;
    // A GPU on which so many thread blocks for each unit find room.
    schedule.multiprocessors =
        static_cast<int>(cluster * plan.selection_rows * problem.heads.num_kv_heads);
    check_result(Operator::kPrefill, of.config, problem,
                 run_prefill_search(of.config, problem, schedule));
  }
}

/// Decode whole; change(schedule) sets the plan's teams.
template <typename Change>
void check_decode(const Case& of, Change&& change) {
  CAPTURE(of.name);
  const Problem<T> problem = decode_problem(of);
  AttentionPlan plan = begin_plan(Operator::kDecode, of.config, problem);
  require_ok(cuda::plan_decode<SumTraits>(plan));
  cuda::DecodeSchedule schedule = cuda::decode_schedule(plan);
  change(schedule);
  plan.schedule.set(schedule);
  CAPTURE(schedule.clusters, schedule.team_size, schedule.num_teams);
  cuda::DecodeParams<T> unused{};
  plan.workspace_bytes = cuda::decode_launch::carve<SumTraits>(plan, schedule, nullptr, unused);
  CallMemory<T> memory(plan, problem, {});
  require_ok(
      cuda::run_decode<SumTraits, T>(plan, memory.args(), memory.workspace().data(), nullptr));
  require_success(cudaDeviceSynchronize());
  REQUIRE(memory.untouched_around_outputs());
  const RunResult<T> result = memory.read();
  check_result(Operator::kDecode, of.config, problem, result);
  check_attention(Operator::kDecode, of.config, problem, result);
}

TEST_CASE("Decode searches by a reduction with row states: as planned", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  for (const Case& of : cases()) check_decode(of, [](cuda::DecodeSchedule&) {});
}

int device_attribute(cudaDeviceAttr attribute) {
  int value = 0;
  require_success(cudaDeviceGetAttribute(&value, attribute, cuda_device().index));
  return value;
}

TEST_CASE("Decode searches by a reduction with row states: clusters", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) < 9)
    HIP_ATTN_SKIP("this GPU has no thread-block clusters");
  const int team_size = GENERATE(1, 2, 5, 8);
  for (const Case& of : cases()) {
    check_decode(of, [&](cuda::DecodeSchedule& schedule) { schedule.team_size = team_size; });
  }
}

TEST_CASE("Decode searches by a reduction with row states: a cooperative grid", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const int team_size = GENERATE(1, 3, 8);
  const int num_teams = GENERATE(1, 3, 8);  // of 8 units
  const int most = device_attribute(cudaDevAttrMultiProcessorCount) / team_size;
  for (const Case& of : cases()) {
    check_decode(of, [&](cuda::DecodeSchedule& schedule) {
      schedule.clusters = false;
      schedule.team_size = team_size;
      schedule.num_teams = std::min(num_teams, most);  // all are resident at once
    });
  }
}

}  // namespace
}  // namespace hip_attn
