// What prefill and decode select and count, against the brute-force search of
// support/reference.hpp.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <set>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/attention_oracle.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/reference.hpp"
#include "support/run.hpp"
#include "support/selection_check.hpp"

namespace hip_attn {
namespace {

using namespace test;

// Requests whose rows begin anywhere in a query block.
std::vector<RequestSpec> random_specs(Choices& choices, Operator op) {
  std::vector<RequestSpec> specs;
  for (std::int64_t b = choices.between(1, 3); b > 0; --b) {
    const std::int64_t seq_len = choices.between(0, choices.of({20, 150, 400}));
    const std::int64_t most = op == Operator::kDecode ? kMaxDecodeRows : 70;
    specs.push_back({seq_len, choices.between(0, std::min(seq_len, most)), choices.bits() % 1000});
  }
  return specs;
}

Heads random_heads(Choices& choices) {
  const std::int64_t kv_heads = choices.between(1, 2);
  return {kv_heads * choices.of({1, 1, 2, 3, 5}), kv_heads, least_head_dim()};
}

HIP_ATTN_OPERATOR_TEST_CASE("selections on exact inputs are those of brute force") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  Choices choices(op == Operator::kPrefill ? 1 : 2);
  for (int trial = 0; trial < 60; ++trial) {
    const HipConfig config = random_config(choices, 4);
    CAPTURE(op, trial, describe(config));
    const auto problem =
        make_problem<TestType>(random_heads(choices), random_specs(choices, op), Values::kExact);
    run_and_check_selection(op, config, problem, {.device = device});
  }
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "selections of every head dim and group size are those of brute force") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const std::int64_t group = GENERATE(1, 4, 7, 8, 20);
  const std::int64_t q_len = op == Operator::kDecode ? 8 : 37;
  CAPTURE(op, head_dim, group);
  const auto problem = make_problem<TestType>({2 * group, 2, head_dim},
                                              {{190, q_len, 1}, {97, q_len, 2}}, Values::kExact);
  run_and_check_selection(op, small_config(), problem, {.device = device});
}

HIP_ATTN_OPERATOR_TEST_CASE("where all scores tie, the lower positions are selected") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  Choices choices(3);
  for (int trial = 0; trial < 20; ++trial) {
    const HipConfig config = random_config(choices, 3);
    CAPTURE(op, trial, describe(config));
    const auto problem =
        make_problem<TestType>(random_heads(choices), random_specs(choices, op), Values::kTies);
    run_and_check_selection(op, config, problem, {.device = device});
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("a NaN product counts as -inf in the search") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int64_t one_in = GENERATE(1, 3, 20);  // 1: every key
  Choices choices(4);
  for (int trial = 0; trial < 20; ++trial) {
    const HipConfig config = random_config(choices, 3);
    CAPTURE(op, trial, describe(config));
    auto problem =
        make_problem<TestType>(random_heads(choices), random_specs(choices, op), Values::kExact);
    for (auto& request : problem.requests) {
      for (std::int64_t key = 0; key < request.seq_len * problem.heads.num_kv_heads; ++key) {
        if (!choices.one_in(one_in)) continue;
        // An infinity meets zeros among the queries, and -infinity in the same key.
        const float poison = choices.of({kNaN, kInfinity, -kInfinity});
        for (std::int64_t n = choices.between(1, 3); n > 0; --n) {
          request.k[key * problem.heads.head_dim + choices.between(0, 63)] =
              from_float<CacheType<TestType>>(choices.one_in(2) ? poison : -poison);
        }
      }
    }
    run_and_check_selection(op, config, problem, {.device = device});
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("the presets select what brute force selects") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(presets::infinite_hip(), presets::infinite_hip_5k(),
                                    presets::hip_classic(6000, 512, 8),
                                    presets::hip_classic(2000, 128, 1), presets::dense());
  CAPTURE(op, describe(config));
  // Two query blocks of prefill, of which the first is not whole.
  const std::int64_t q_len = op == Operator::kDecode ? 2 : 80;
  const auto problem = make_problem<TestType>({2, 1, least_head_dim()},
                                              {{6000, q_len, 1}, {1700, q_len, 2}}, Values::kExact);
  run_and_check_selection(op, config, problem, {.device = device});
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "on real numbers, selections differ from brute force in near ties alone") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const std::int64_t q_len = op == Operator::kDecode ? 3 : 40;
  const HipConfig config = small_config();
  const auto problem = make_problem<TestType>({8, 2, head_dim}, {{700, q_len, 1}, {333, q_len, 2}});
  const auto result = run_attention(op, config, problem, {.device = device});
  std::int64_t same = 0;
  std::int64_t total = 0;
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
      const auto actual = result.selection.unit(block.selection_row, head);
      const auto expected = reference_select(problem, block, head, op, config).blocks;
      REQUIRE(actual.size() == expected.size());
      std::vector<std::int32_t> both;
      std::set_intersection(actual.begin(), actual.end(), expected.begin(), expected.end(),
                            std::back_inserter(both));
      same += static_cast<std::int64_t>(both.size());
      total += static_cast<std::int64_t>(expected.size());
    }
  }
  // Room for one near tie in a hundred blocks, each of which won a place from about ten others.
  CHECK(same >= total - total / 100);
}

HIP_ATTN_OPERATOR_TEST_CASE("no key is attended twice and every row has its latest window") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  Choices choices(6);
  for (int trial = 0; trial < 30; ++trial) {
    const HipConfig config = random_config(choices, 3);
    CAPTURE(op, trial, describe(config));
    const auto problem = make_problem<TestType>(random_heads(choices), random_specs(choices, op));
    const auto result = run_attention(op, config, problem, {.device = device});
    for (const QueryBlock& block : query_blocks(problem, op, config)) {
      const auto blocks = result.selection.unit(block.selection_row, 0);
      const std::int64_t w0 = result.selection.w0(block.selection_row, 0);
      for (std::int64_t p = block.p0; p < block.p0 + block.rows; ++p) {
        const std::vector<std::int64_t> keys = attended_keys(config, blocks, w0, p);
        REQUIRE(std::adjacent_find(keys.begin(), keys.end(), std::greater_equal<>()) == keys.end());
        REQUIRE(keys.front() >= 0);
        REQUIRE(keys.back() == p);
        // Ascending, distinct and ending at p: the latest n keys are all there.
        const std::int64_t latest = std::min(config.window, p + 1);
        REQUIRE(static_cast<std::int64_t>(keys.size()) >= latest);
        REQUIRE(keys[keys.size() - latest] == p + 1 - latest);
        REQUIRE(std::min(config.sink, p + 1) <= static_cast<std::int64_t>(keys.size()));
      }
    }
  }
}

TEST_CASE("window_start is sink or ends a whole number of blocks, the window not below its size") {
  Choices choices(7);
  for (int trial = 0; trial < 2000; ++trial) {
    const HipConfig config = random_config(choices, 3);
    const std::int64_t p0 = choices.between(0, 500);
    const std::int64_t w0 = window_start(config, p0);
    CAPTURE(describe(config), p0, w0);
    REQUIRE(w0 == reference_window_start(config, p0));
    REQUIRE(w0 >= config.sink);
    REQUIRE((config.is_window_only() || (w0 - config.sink) % config.block_k() == 0));
    REQUIRE((w0 == config.sink || p0 + 1 - w0 >= config.window));
    REQUIRE(
        (config.is_dense() || w0 == config.sink || p0 + 1 - w0 < config.window + config.block_k()));
  }
}

TEST_CASE("query blocks of a call have distinct selection rows within the plan's") {
  Choices choices(8);
  for (int trial = 0; trial < 3000; ++trial) {
    HipConfig config;
    config.block_q = choices.of({1, 2, 16, 64});
    Problem<float> problem{{1, 1, 64}, {}};
    for (std::int64_t b = choices.between(1, 5); b > 0; --b) {
      Request<float> request;
      request.q_len = choices.between(0, choices.of({1, 5, 200}));
      request.seq_len = request.q_len + choices.between(0, 100);
      problem.requests.push_back(request);
    }
    const std::int64_t rows = selection_row(problem.total_q(), problem.batch(), 0, config.block_q);
    std::set<std::int64_t> used;
    for (const QueryBlock& block : query_blocks(problem, Operator::kPrefill, config)) {
      REQUIRE(used.insert(block.selection_row).second);
      REQUIRE((block.selection_row >= 0 && block.selection_row < rows));
    }
  }
}

}  // namespace
}  // namespace hip_attn
