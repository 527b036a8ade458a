// What searches by landmarks, by every key and by softmax sums select, against brute force. Scales
// are such that logits of Values::kExact are about 2, so that many chunks have a share of the mass.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
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

template <TestedTypes P>
float exact_scale() {
  return std::same_as<QueryType<P>, float> ? 0.004f : 0.05f;
}

std::vector<RequestSpec> specs_of(Operator op, std::int64_t rows) {
  if (op == Operator::kDecode) return {{430, rows, 1}, {97, rows, 2}, {0, rows, 3}, {260, 0, 4}};
  return {{300, 29 + rows, 1}, {70, 70, 2}, {0, rows, 3}, {433, rows, 4}};
}

HIP_ATTN_OPERATOR_TEST_CASE("landmarks of every spread select what brute force selects") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const float spread = GENERATE(0.f, 0.5f, 1.f);
  // More levels than the config reads: the finest one decides what the others hold.
  const std::vector<std::int64_t> levels =
      GENERATE(std::vector<std::int64_t>{8, 32}, std::vector<std::int64_t>{4, 8, 16, 32, 64});
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  CAPTURE(op, spread, levels.size(), describe(config));
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()}, specs_of(op, 3));
  run_and_check_selection(
      op, config, problem,
      {.device = device, .landmarks = {.chunk_sizes = levels, .spread = spread}});
}

HIP_ATTN_OPERATOR_TEST_CASE("landmark searches of every number of rows are those of brute force") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int64_t group = GENERATE(1, 3, 4, 7, 16, 32, 64);
  const HipConfig config =
      GENERATE(landmark_config(), with_maxima(landmark_config()), dense_landmark_config());
  for (std::int64_t rows = 1; rows <= kMaxDecodeRows; rows += group > 7 ? 7 : 1) {
    CAPTURE(op, group, rows, describe(config));
    const auto problem =
        make_problem<TestType>({group, 1, least_head_dim()}, specs_of(op, rows), Values::kExact);
    run_and_check_selection(op, config, problem,
                            {.device = device, .scale = exact_scale<TestType>()});
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("every key of chunks of every size selects what brute force selects") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int32_t chunk_size = GENERATE(1, 4, 8, 16, 32, 64);
  CAPTURE(op, chunk_size);
  HipConfig config;
  config.sink = 64;
  config.window = 70;
  config.block_q = 16;
  config.stages = {{64, 1024, 4, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {chunk_size, 192, 2, ScanRule::kEveryKey, Reduction::kSoftmaxSum}};
  // W0 is cut to blocks: the last chunk of a landmark stage may be a part of one.
  const std::int64_t rows = op == Operator::kDecode ? 3 : 90;
  const auto problem = make_problem<TestType>(
      {6, 2, least_head_dim()}, {{2301, rows, 1}, {1000, rows, 2}, {300, rows, 3}}, Values::kExact);
  run_and_check_selection(op, config, problem,
                          {.device = device, .scale = exact_scale<TestType>()});
}

HIP_ATTN_OPERATOR_TEST_CASE("every key is read wherever pages end") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()}, specs_of(op, 3));
  const auto check = [&](const MemoryLayout& memory) {
    CAPTURE(op, memory.page_size, memory.order);
    run_and_check_selection(op, dense_landmark_config(), problem,
                            {.device = device, .memory = memory});
  };
  // Blocks of 8 keys lie in one page each, in several, or sometimes in two.
  for (const std::int64_t page_size : {1, 2, 8, 12, 24, 256}) {
    for (const KvOrder order : {KvOrder::kNhd, KvOrder::kHnd}) {
      check({.order = order, .page_size = page_size});
    }
  }
  check({.order = KvOrder::kContiguous});  // one page of 433 or 430 tokens
}

HIP_ATTN_OPERATOR_TEST_CASE("chunks without a logit are not found however low the others are") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  HipConfig config;
  config.sink = 8;
  config.window = 20;
  config.block_q = 16;
  config.stages = {{8, 128, 2, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {8, 64, 1, ScanRule::kEveryKey, Reduction::kSoftmaxSum}};
  auto problem = make_problem<TestType>({4, 2, least_head_dim()}, {{1200, 7, 1}});
  auto& request = problem.requests[0];
  // All logits are about -600 and differ little; the first 64 chunks behind the sink have none.
  const float far = std::sqrt(600.f / static_cast<float>(least_head_dim()));
  for (auto& q : request.q) q = from_float<QueryType<TestType>>(far + 0.01f * to_float(q));
  for (auto& k : request.k) k = from_float<CacheType<TestType>>(-far + 0.01f * to_float(k));
  std::fill(request.k.begin() + request.kv_offset(8, 0),
            request.k.begin() + request.kv_offset(8 + 64 * 8, 0),
            from_float<CacheType<TestType>>(std::numeric_limits<float>::quiet_NaN()));
  const auto result = run_attention(op, config, problem, {.device = device, .scale = 1.f});
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t head = 0; head < 2; ++head) {
      const auto blocks = result.selection.unit(block.selection_row, head);
      CHECK(blocks.size() == 8);
      CHECK(*std::min_element(blocks.begin(), blocks.end()) >= 65);
    }
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("softmax sums of every rule select what brute force selects") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  Choices choices(op == Operator::kPrefill ? 11 : 12);
  int searched = 0;
  for (int trial = 0; trial < 40; ++trial) {
    HipConfig config = random_config(choices, 3);
    config.max_first_chunks = 4096;  // see check_selection_by_stages
    for (ScanStage& stage : config.stages) stage.reduction = Reduction::kSoftmaxSum;
    CAPTURE(op, trial, describe(config));
    const auto problem =
        make_problem<TestType>({choices.of({1, 2, 3, 5}), 1, least_head_dim()},
                               specs_of(op, choices.between(1, kMaxDecodeRows)), Values::kExact);
    const auto result = run_and_check_selection(
        op, config, problem, {.device = device, .scale = exact_scale<TestType>()});
    searched += std::any_of(result.counters.begin(), result.counters.end() - 2,
                            [](std::int64_t reads) { return reads > 0; });
  }
  CHECK(searched > 15);
}

HIP_ATTN_OPERATOR_TEST_CASE("softmax sums of chunks that double select what brute force selects") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  HipConfig config = doubling_config();
  config.stages[0].reduction = Reduction::kSoftmaxSum;
  config.stages[0].rule = GENERATE(ScanRule::kDescent, ScanRule::kCentre, ScanRule::kEveryKey);
  CAPTURE(op, describe(config));
  const auto problem =
      make_problem<TestType>({3, 1, least_head_dim()}, specs_of(op, 2), Values::kExact);
  run_and_check_selection(op, config, problem,
                          {.device = device, .scale = exact_scale<TestType>()});
}

/// infinite_hip_softmax_sum at a sixteenth of its sizes.
HipConfig three_sums() {
  HipConfig config;
  config.sink = 8;
  config.window = 10;
  config.block_q = 8;
  config.stages = {{32, 256, 4, ScanRule::kDescent, Reduction::kSoftmaxSum},
                   {8, 64, 4, ScanRule::kDescent, Reduction::kSoftmaxSum},
                   {4, 32, 1, ScanRule::kDescent, Reduction::kSoftmaxSum}};
  config.max_first_chunks = 8;
  return config;
}

HIP_ATTN_OPERATOR_TEST_CASE("several stages of sums follow a first one whose chunks double") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const bool is_preset = GENERATE(false, true);
  HipConfig config = is_preset ? presets::infinite_hip_softmax_sum() : three_sums();
  if (is_preset) config.max_first_chunks = 128;
  CAPTURE(op, is_preset);
  const std::int64_t rows = op == Operator::kDecode ? 2 : 20;
  const std::vector<RequestSpec> specs =
      is_preset ? std::vector<RequestSpec>{{40000, rows, 1}, {37001, rows, 2}}
                : std::vector<RequestSpec>{
                      {430, rows, 1}, {391, rows, 2}, {1011, rows, 3}, {750, rows, 4}};
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()}, specs);
  const auto result = run_attention(op, config, problem, {.device = device});
  int decided = 0;
  int units = 0;
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t head = 0; head < 2; ++head) {
      const SearchResult expected = reference_select(problem, block, head, op, config);
      REQUIRE(reference_chunk_size(config, 0, expected.w0) > config.stages[0].chunk_size);
      ++units;
      if (!expected.is_decided()) continue;
      ++decided;
      CAPTURE(block.request, block.p0, head);
      CHECK(result.selection.unit(block.selection_row, head) == expected.blocks);
    }
  }
  CAPTURE(units);
  CHECK(3 * decided >= units);
}

HIP_ATTN_OPERATOR_TEST_CASE("scale and logit_softcap are those of the logits that are summed") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  HipConfig descent = landmark_config();
  for (ScanStage& stage : descent.stages) stage.rule = ScanRule::kDescent;
  const HipConfig config = GENERATE_COPY(landmark_config(), dense_landmark_config(), descent);
  // 1: some logits are tens above those that were read before them.
  const LogitOptions options[] = {{{}, {}},    {0.01f, {}}, {0.5f, {}},  {1.f, {}},   {0.f, {}},
                                  {-0.2f, {}}, {{}, 0.7f},  {0.2f, 3.f}, {-0.1f, 2.f}};
  const auto problem = make_problem<TestType>({6, 2, least_head_dim()}, specs_of(op, 2));
  for (const LogitOptions& each : options) {
    CAPTURE(op, each.scale.value_or(-99.f), each.softcap.value_or(-99.f));
    const RunOptions run{.device = device, .scale = each.scale, .logit_softcap = each.softcap};
    check_attention(op, config, problem, run_and_check_selection(op, config, problem, run), each);
  }
}

/// Gaussian problem in which one block of block_k keys of every `one_in` points where the queries
/// point: a unit of mass each, which no rounding can take for another.
template <TestedTypes P>
Problem<P> problem_with_hot_blocks(const Heads& heads, const std::vector<RequestSpec>& specs,
                                   const std::vector<std::int64_t>& hot, std::int64_t block_k) {
  auto problem = make_problem<P>(heads, specs);
  for (Request<P>& request : problem.requests) {
    for (auto* queries : {&request.q}) {
      for (std::size_t i = 0; i < queries->size(); ++i) {
        const float direction =
            gaussian(mix(99, i % static_cast<std::size_t>(heads.head_dim))) > 0 ? 1.f : -1.f;
        (*queries)[i] = from_float<QueryType<P>>(direction + 0.3f * to_float((*queries)[i]));
      }
    }
    for (const std::int64_t begin : hot) {
      for (std::int64_t t = begin; t < std::min(begin + block_k, request.seq_len); ++t) {
        for (std::int64_t head = 0; head < heads.num_kv_heads; ++head) {
          for (std::int64_t d = 0; d < heads.head_dim; ++d) {
            auto& k = request.k[request.kv_offset(t, head) + d];
            const float direction =
                gaussian(mix(99, static_cast<std::uint64_t>(d))) > 0 ? 1.f : -1.f;
            k = from_float<CacheType<P>>(2.5f * direction + 0.3f * to_float(k));
          }
        }
      }
    }
  }
  return problem;
}

HIP_ATTN_OPERATOR_TEST_CASE("blocks that have the mass are found wherever they are") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(landmark_config(), with_maxima(landmark_config()));
  Choices choices(21);
  for (int trial = 0; trial < 10; ++trial) {
    // As many as the last stage keeps, 4 chunks of 32 hold them in all.
    std::vector<std::int64_t> chunks;
    while (chunks.size() < 4) {
      const std::int64_t chunk = config.sink + 32 * choices.between(0, 17);
      if (std::find(chunks.begin(), chunks.end(), chunk) == chunks.end()) chunks.push_back(chunk);
    }
    std::sort(chunks.begin(), chunks.end());
    std::vector<std::int64_t> hot;
    std::vector<std::int32_t> blocks;
    for (const std::int64_t chunk : chunks) {
      const std::int64_t eight = chunk + 8 * choices.between(0, 3);
      for (const std::int64_t begin : {eight, eight + 4}) {
        hot.push_back(begin);
        blocks.push_back(static_cast<std::int32_t>(begin / 4));
      }
    }
    CAPTURE(op, trial, blocks.size());
    const std::int64_t q_len = op == Operator::kDecode ? 4 : 16;
    const auto problem =
        problem_with_hot_blocks<TestType>({4, 2, least_head_dim()}, {{688, q_len, 7}}, hot, 4);
    const auto result =
        run_attention(op, config, problem, {.device = device, .landmarks = {.chunk_sizes = {}}});
    for (const QueryBlock& block : query_blocks(problem, op, config)) {
      for (std::int64_t head = 0; head < 2; ++head) {
        CHECK(result.selection.unit(block.selection_row, head) == blocks);
      }
    }
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("the landmark presets select what brute force selects") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  // 1M + 1 tokens: levels of 1024, 256 and 64 keys, of which these lengths drop some.
  const HipConfig config =
      GENERATE(presets::landmark(20000), presets::landmark_1k(20000),
               presets::landmark((1 << 20) + 1), presets::infinite_hip_softmax_sum());
  CAPTURE(op, describe(config));
  const std::int64_t q_len = op == Operator::kDecode ? 2 : 80;
  const auto problem =
      make_problem<TestType>({2, 1, least_head_dim()}, {{11900, q_len, 1}, {2900, q_len, 2}});
  run_and_check_selection(op, config, problem,
                          {.device = device, .landmarks = {.chunk_sizes = {}, .spread = 0.5f}});
}

HIP_ATTN_OPERATOR_TEST_CASE("where all masses tie, the lower positions are selected") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const bool is_dense = GENERATE(false, true);
  const HipConfig config = is_dense ? dense_landmark_config() : landmark_config();
  const auto problem =
      make_problem<TestType>({4, 2, least_head_dim()}, {{448 + 40, 1, 1}}, Values::kTies);
  const auto result =
      run_attention(op, config, problem, {.device = device, .scale = exact_scale<TestType>()});
  for (std::int64_t head = 0; head < 2; ++head) {
    CHECK(result.selection.unit(0, head) ==
          (is_dense ? std::vector<std::int32_t>{4, 5, 6, 7}
                    : std::vector<std::int32_t>{8, 9, 10, 11, 12, 13, 14, 15}));
  }
}

}  // namespace
}  // namespace hip_attn
