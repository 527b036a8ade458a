// Properties of prefill and decode that hold for every selection: what each row attends to, and
// what may not change a result. selection_test.cpp has what is selected.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/attention_oracle.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"

namespace hip_attn {
namespace {

using namespace test;

Heads heads_of(std::int64_t group, std::int64_t head_dim) {
  const std::int64_t kv_heads = group > 4 ? 1 : 2;
  return {group * kv_heads, kv_heads, head_dim};
}

// Requests of many lengths; for decode 1 to 8 rows each. Some have no keys, some no rows.
std::vector<RequestSpec> mixed_specs(Operator op) {
  if (op == Operator::kDecode) {
    return {{150, 1, 1}, {0, 1, 2},   {77, 8, 3},  {260, 0, 4}, {131, 3, 5}, {5, 2, 6},
            {0, 0, 7},   {222, 4, 8}, {199, 5, 9}, {96, 6, 10}, {64, 7, 11}, {2, 2, 12}};
  }
  return {{60, 60, 1}, {0, 0, 2}, {177, 9, 3}, {260, 0, 4}, {0, 2, 5}, {231, 33, 6}, {1, 1, 7}};
}

template <TestedTypes P>
void check_same_output(const RunResult<P>& a, const RunResult<P>& b) {
  CHECK(same_bits(a.out, b.out));
  CHECK(same_bits(a.lse, b.lse));
}

template <TestedTypes P>
void check_same_result(const RunResult<P>& a, const RunResult<P>& b) {
  check_same_output(a, b);
  CHECK(a.selection.blocks == b.selection.blocks);
  CHECK(a.selection.counts == b.selection.counts);
  CHECK(a.selection.window_start == b.selection.window_start);
  CHECK(a.counters == b.counters);
}

template <typename V>
std::vector<V> rows_of(const std::vector<V>& rows, std::int64_t first, std::int64_t count,
                       std::int64_t row_size) {
  return {rows.begin() + first * row_size, rows.begin() + (first + count) * row_size};
}

// The units of request b of `whole` are those of request 0 of `part`.
template <TestedTypes P>
void check_same_selection(Operator op, const HipConfig& config, const Problem<P>& whole_problem,
                          const RunResult<P>& whole, std::int64_t b, const Problem<P>& part_problem,
                          const RunResult<P>& part) {
  const auto whole_blocks = query_blocks(whole_problem, op, config);
  for (const QueryBlock& mine : query_blocks(part_problem, op, config)) {
    const auto same = std::find_if(whole_blocks.begin(), whole_blocks.end(), [&](const auto& each) {
      return each.request == b && each.p0 == mine.p0;
    });
    REQUIRE(same != whole_blocks.end());
    for (std::int64_t head = 0; head < whole_problem.heads.num_kv_heads; ++head) {
      CHECK(whole.selection.unit(same->selection_row, head) ==
            part.selection.unit(mine.selection_row, head));
      CHECK(whole.selection.w0(same->selection_row, head) ==
            part.selection.w0(mine.selection_row, head));
    }
  }
}

// The rows and units of request b of `whole`, from its row `first_row` on, are those of request 0
// of `part`.
template <TestedTypes P>
void check_same_request(Operator op, const HipConfig& config, const Problem<P>& whole_problem,
                        const RunResult<P>& whole, std::int64_t b, std::int64_t first_row,
                        const Problem<P>& part_problem, const RunResult<P>& part) {
  const Heads& heads = whole_problem.heads;
  const std::int64_t rows = part_problem.total_q();
  const std::int64_t at = whole_problem.first_row(b) + first_row;
  CHECK(same_bits(rows_of(whole.out, at, rows, heads.num_q_heads * heads.head_dim), part.out));
  CHECK(same_bits(rows_of(whole.lse, at, rows, heads.num_q_heads), part.lse));
  check_same_selection(op, config, whole_problem, whole, b, part_problem, part);
}

HIP_ATTN_OPERATOR_TEST_CASE("every row equals the dense oracle restricted to its selection") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const std::int64_t group = GENERATE(1, 4, 7, 8);
  CAPTURE(op, head_dim, group);
  const auto problem = make_problem<TestType>(heads_of(group, head_dim), mixed_specs(op));
  const auto result = run_attention(op, config, problem, {.device = device});
  check_attention(op, config, problem, result);
}

HIP_ATTN_OPERATOR_TEST_CASE("every kind of configuration attends to what it selects") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config =
      GENERATE(smallest_config(), doubling_config(), presets::hip_classic(300, 32, 4),
               presets::hip_classic(300, 64, 1), presets::dense(), presets::infinite_hip(),
               window_only_config(), presets::sliding_window(37), presets::sliding_window(70, 3),
               presets::sliding_window(1), landmark_config(), with_maxima(landmark_config()));
  CAPTURE(op, describe(config));
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  const auto result = run_attention(op, config, problem, {.device = device});
  check_attention(op, config, problem, result);
}

HIP_ATTN_OPERATOR_TEST_CASE("candidates within the budget give dense attention") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = small_config();
  // From p0 = 75 on, W0 is 52 and the candidates [16, 52) exceed the 32 tokens kept. No block of
  // rows below reaches the next multiple of block_q past 74.
  const std::int64_t q_len = op == Operator::kDecode ? 3 : 6;
  const std::int64_t p0 = GENERATE(12, 40, 71, 74);
  const auto problem =
      make_problem<TestType>(heads_of(4, least_head_dim()), {{p0 + q_len, q_len, 1}});
  const auto result = run_attention(op, config, problem, {.device = device});

  HostSelection everything = result.selection;
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
      everything.set_unit(block.selection_row, head, config.sink, {});  // a window of everything
    }
  }
  check_close(result.out, result.lse, attend_all<double>(op, config, problem, everything),
              attend_all<float>(op, config, problem, everything));
  const auto dense = run_attention(op, presets::dense(), problem, {.device = device});
  CHECK(result.counters[4] == dense.counters[1]);  // attended (row, KV head, key) triples
}

HIP_ATTN_OPERATOR_TEST_CASE("one block of candidates above the budget drops one block") {
  const HipConfig config = small_config();
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), {{76, 1, 1}});
  const auto result = run_attention(Operator::kDecode, config, problem);
  for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
    CHECK(result.selection.w0(0, head) == 16 + 32 + 4);
    CHECK(result.selection.unit(0, head).size() == 32 / 4);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("a prompt in pieces equals the prompt whole") {
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(small_config(), smallest_config(), doubling_config(),
                                    window_only_config(), landmark_config());
  const std::vector<std::int64_t> cuts = {0, 32, 48, 144, 150};  // multiples of every block_q
  const Heads heads = heads_of(4, least_head_dim());
  const auto whole = make_problem<TestType>(heads, {{cuts.back(), cuts.back(), 1}});
  const auto result = run_attention(Operator::kPrefill, config, whole, {.device = device});
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    CAPTURE(describe(config), cuts[i]);
    const auto piece = make_problem<TestType>(heads, {{cuts[i + 1], cuts[i + 1] - cuts[i], 1}});
    check_same_request(Operator::kPrefill, config, whole, result, 0, cuts[i], piece,
                       run_attention(Operator::kPrefill, config, piece, {.device = device}));
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("page order, page size, NHD or HND and strides change nothing") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  const auto contiguous = run_attention(
      op, config, problem, {.device = device, .memory = {.order = KvOrder::kContiguous}});
  const MemoryLayout layouts[] = {
      {KvOrder::kNhd, 16, 1},
      {KvOrder::kNhd, 16, 2},
      {KvOrder::kHnd, 16, 3},
      {KvOrder::kNhd, 1, 4},
      {KvOrder::kHnd, 1, 5},
      {KvOrder::kNhd, 3, 6},
      {KvOrder::kHnd, 64, 7, 8},
      {KvOrder::kNhd, 4096, 8},
      {KvOrder::kNhd, 16, 9, 8, true},
      {KvOrder::kHnd, 3, 10, 24, true},
      {KvOrder::kNhd, 16, 11, 8, false, true},
      {KvOrder::kHnd, 5, 12, 16, false, true},
      {KvOrder::kContiguous, 0, 13, 8},
  };
  for (const MemoryLayout& memory : layouts) {
    CAPTURE(op, memory.page_size, memory.page_seed);
    check_same_result(run_attention(op, config, problem, {.device = device, .memory = memory}),
                      contiguous);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("requests that lie apart in q change nothing") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), doubling_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const bool hopper = GENERATE(true, false);
  if (!hopper && (device.type == DeviceType::kCpu || op == Operator::kDecode)) return;
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  const auto together = run_attention(op, config, problem, {.device = device, .hopper = hopper});
  const std::int64_t most_rows = op == Operator::kDecode ? 8 : 60;
  for (const MemoryLayout& memory :
       {MemoryLayout{.request_rows = most_rows}, {.row_padding = 8, .request_rows = 71}}) {
    CAPTURE(op, memory.request_rows);
    check_same_result(
        run_attention(op, config, problem, {.device = device, .memory = memory, .hopper = hopper}),
        together);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("decode that reuses selections takes requests that lie apart in q") {
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()),
                                              {{300, 1, 1}, {150, 1, 2}, {0, 1, 3}, {220, 1, 4}});
  const AttentionPlan plan =
      make_plan<TestType>(Operator::kDecode, small_config(), problem.shape(device));
  const auto reuse = [&](std::int64_t request_rows) {
    CallMemory<TestType> memory(plan, problem, {.request_rows = request_rows});
    const DeviceBuffer<std::byte> cache(
        device, static_cast<std::int64_t>(4 * plan.selection_cache_slot_bytes), std::byte{0});
    DeviceBuffer<std::int32_t> refresh_from(device, 4, 0);
    memory.args().selection_out.reset();
    memory.args().cache = SelectionCache{cache.data(), 4, {refresh_from.data(), {4}}, {}};
    REQUIRE(run_decode(plan, memory.args(), memory.workspace()).ok());
    refresh_from.write(std::vector<std::int32_t>(4, 3));
    REQUIRE(run_decode(plan, memory.args(), memory.workspace()).ok());
    REQUIRE(memory.untouched_around_outputs());
    return memory.read();
  };
  const auto together = reuse(0);
  check_same_output(reuse(1), together);
  check_same_output(reuse(5), together);
}

HIP_ATTN_OPERATOR_TEST_CASE("a request alone equals the request in a batch") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const Heads heads = heads_of(4, least_head_dim());
  const auto specs = mixed_specs(op);
  const auto batch = make_problem<TestType>(heads, specs);
  const auto result = run_attention(op, config, batch, {.device = device});
  for (std::size_t b = 0; b < specs.size(); ++b) {
    CAPTURE(op, b);
    const auto alone = make_problem<TestType>(heads, {specs[b]});
    const auto own = run_attention(op, config, alone, {.device = device});
    if (op == Operator::kDecode && device.type == DeviceType::kCuda) {
      // The plan decides how many thread blocks share attention's sums (docs/guide/numerics.md):
      // selections do not depend on it, outputs are those of a plan for the batch.
      check_same_selection(op, config, batch, result, static_cast<std::int64_t>(b), alone, own);
      check_same_request(
          op, config, batch, result, static_cast<std::int64_t>(b), 0, alone,
          run_attention(op, config, alone, {.device = device, .planned = batch.shape(device)}));
    } else {
      check_same_request(op, config, batch, result, static_cast<std::int64_t>(b), 0, alone, own);
    }
  }
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "a call smaller than its plan equals the call with a plan of its size") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  AttentionShape larger = problem.shape(device);
  larger.batch += 5;
  larger.total_q *= 3;
  larger.max_seq_len *= 7;
  const auto exact = run_attention(op, config, problem, {.device = device});
  const auto roomy = run_attention(op, config, problem, {.device = device, .planned = larger});
  if (op == Operator::kDecode && device.type == DeviceType::kCuda) {
    // The plan decides how many thread blocks share a sum (docs/guide/numerics.md).
    check_attention(op, config, problem, roomy);
  } else {
    check_same_output(roomy, exact);
  }
  CHECK(roomy.counters == exact.counters);
}

HIP_ATTN_OPERATOR_TEST_CASE("the number of threads changes nothing") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  AttentionPlan plan = make_plan<TestType>(op, config, problem.shape(kCpu));
  plan.num_threads = 1;
  CallMemory<TestType> memory(plan, problem, {});
  REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
  check_same_result(memory.read(), run_attention(op, config, problem));
}

HIP_ATTN_OPERATOR_TEST_CASE("outputs that are not asked for change nothing") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  AttentionPlan plan = make_plan<TestType>(op, config, problem.shape(device));
  plan.dense_until = op == Operator::kPrefill ? 100 : 0;
  CallMemory<TestType> memory(plan, problem, {});
  ArgumentsOf<TestType> args = memory.args();
  args.lse.reset();
  args.selection_out.reset();
  args.counters.reset();
  REQUIRE(run_operator<TestType>(plan, args, memory.workspace()).ok());
  CHECK(same_bits(
      memory.read().out,
      run_attention(op, config, problem, {.device = device, .dense_until = plan.dense_until}).out));
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "a selection given back in gives the same bits and reads no key to search") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(small_config(), smallest_config(), doubling_config(),
                                    presets::dense(), window_only_config(), landmark_config());
  CAPTURE(op, describe(config));
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  auto searched = run_attention(op, config, problem, {.device = device});
  const auto given =
      run_attention(op, config, problem, {.device = device, .selection = &searched.selection});
  std::fill_n(searched.counters.begin(), config.num_stages(), 0);
  check_same_result(given, searched);
}

HIP_ATTN_OPERATOR_TEST_CASE("any selection that is ascending, in range and causal is attended to") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = small_config();
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  // Wider than the plan's own selections, which hold 8 blocks.
  HostSelection selection(make_plan<TestType>(op, config, problem.shape(device)).selection_rows,
                          problem.heads.num_kv_heads, 40);
  Choices choices(5);
  for (const QueryBlock& block : query_blocks(problem, op, config)) {
    for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
      // Up to an empty window, and unlike a search's need not stand on a block's edge.
      const std::int64_t w0 =
          std::max(config.sink, choices.between(config.sink, std::max(config.sink, block.p0 + 1)));
      std::vector<std::int32_t> blocks;
      for (std::int64_t at = config.sink; at + 4 <= w0 && blocks.size() < 40; at += 4) {
        if (choices.one_in(2)) blocks.push_back(static_cast<std::int32_t>(at / 4));
      }
      selection.set_unit(block.selection_row, head, w0, blocks);
    }
  }
  const AttentionPlan plan = make_plan<TestType>(op, config, problem.shape(device));
  CallMemory<TestType> memory(plan, problem, {});
  const SelectionMemory given(device, selection);
  memory.args().selection = given.view();
  memory.args().selection_out.reset();
  const Status status = run_operator<TestType>(plan, memory.args(), memory.workspace());
  INFO(status.message());
  REQUIRE(status.ok());
  auto result = memory.read();
  result.selection = selection;
  check_attention(op, config, problem, result);
}

HIP_ATTN_OPERATOR_TEST_CASE("requests without keys or without rows are legal") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(small_config(), presets::dense(), landmark_config());
  const std::vector<std::vector<RequestSpec>> batches = {
      {}, {{0, 0, 1}}, {{0, 3, 1}}, {{40, 0, 1}}, {{0, 0, 1}, {0, 1, 2}, {30, 0, 3}, {0, 2, 4}}};
  for (const auto& specs : batches) {
    CAPTURE(op, specs.size());
    const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), specs);
    const auto result = run_attention(op, config, problem, {.device = device});
    for (const QueryType<TestType> value : result.out) REQUIRE(to_float(value) == 0.f);
    for (const float value : result.lse) REQUIRE(value == -kInfinity);
    for (const std::int32_t count : result.selection.counts) REQUIRE(count == kUntouched);
    for (const std::int64_t counter : result.counters) REQUIRE(counter == 0);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("scale and logit_softcap follow their formula") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  const LogitOptions options[] = {{0.03f, {}}, {2.f, {}},    {0.f, {}},  {-0.5f, {}},  {{}, 1.f},
                                  {{}, 30.f},  {1.f, 0.01f}, {4.f, 8.f}, {1e-3f, 50.f}};
  for (const LogitOptions& each : options) {
    CAPTURE(op, each.scale.value_or(-99.f), each.softcap.value_or(-99.f));
    const auto result =
        run_attention(op, small_config(), problem,
                      {.device = device, .scale = each.scale, .logit_softcap = each.softcap});
    check_attention(op, small_config(), problem, result, each);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("logits may rise, fall or lie far from zero along the keys") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(small_config(), presets::dense());
  const auto clean = make_problem<TestType>(heads_of(4, least_head_dim()),
                                            {{700, op == Operator::kPrefill ? 70 : 3, 1}});
  const LogitOptions options{0.125f, {}};
  const struct {
    float first;
    float step;                // every 64 keys
    std::int64_t without = 0;  // keys of the beginning that have logits of -inf
  } lines[] = {{0.f, 5.f},     {0.f, 12.f},        {0.f, -12.f},      {-1000.f, 4.f},
               {1000.f, -4.f}, {-300.f, 0.f, 130}, {-300.f, 12.f, 64}};
  for (const auto& line : lines) {
    CAPTURE(op, describe(config), line.first, line.step, line.without);
    auto problem = clean;
    auto& request = problem.requests[0];
    const auto set = [](auto& values, std::int64_t i, float value) {
      using Value = typename std::remove_reference_t<decltype(values)>::value_type;
      values[i] = from_float<Value>(value);
    };
    // Times the scale: a key's logit is its first dim, and what the others bring.
    for (std::int64_t i = 0; i < std::ssize(request.q); i += problem.heads.head_dim) {
      set(request.q, i, 8.f);
    }
    for (std::int64_t token = 0; token < 700; ++token) {
      for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
        set(request.k, request.kv_offset(token, head),
            token < line.without ? -kInfinity
                                 : line.first + line.step * static_cast<float>(token / 64));
      }
    }
    const auto result =
        run_attention(op, config, problem, {.device = device, .scale = options.scale});
    check_attention(op, config, problem, result, options);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("lse and merge_states put attention over two sets of keys together") {
  using T = QueryType<TestType>;
  if (!is_built<T>()) return;  // of the cache alone
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const Heads heads = heads_of(4, head_dim);
  const HipConfig config = presets::dense();
  const auto whole = make_problem<TestType>(heads, {{120, 1, 1}});
  const auto& request = whole.requests[0];
  HostSelection everything(1, heads.num_kv_heads, 1);
  for (std::int64_t head = 0; head < heads.num_kv_heads; ++head)
    everything.set_unit(0, head, 0, {});

  for (const std::int64_t cut : {1, 50, 64, 119}) {
    // The two parts of the cache as requests of their own, with the same query row.
    const std::int64_t at = request.kv_offset(cut, 0);
    Problem<TestType> parts{heads, {request, request}};
    parts.requests[0].seq_len = cut;
    parts.requests[0].k.resize(at);
    parts.requests[0].v.resize(at);
    parts.requests[1].seq_len = request.seq_len - cut;
    parts.requests[1].k.erase(parts.requests[1].k.begin(), parts.requests[1].k.begin() + at);
    parts.requests[1].v.erase(parts.requests[1].v.begin(), parts.requests[1].v.begin() + at);
    const auto partial = run_attention(Operator::kDecode, config, parts, {.device = device});

    const DeviceBuffer<T> partial_out(device, partial.out);
    const DeviceBuffer<float> partial_lse(device, partial.lse);
    const DeviceBuffer<T> out(device, heads.num_q_heads * head_dim, from_float<T>(kNaN));
    const DeviceBuffer<float> lse(device, heads.num_q_heads, kNaN);
    MergeStatesArgs<T> merge;
    merge.partial_out = {partial_out.data(), {2, 1, heads.num_q_heads, head_dim}};
    merge.partial_lse = {partial_lse.data(), {2, 1, heads.num_q_heads}};
    merge.out = {out.data(), {1, heads.num_q_heads, head_dim}};
    merge.lse = TensorView<float, 2>(lse.data(), {1, heads.num_q_heads});
    REQUIRE(merge_states<T>(device, merge).ok());
    CAPTURE(cut);
    check_close(out.read(), lse.read(),
                attend_all<double>(Operator::kDecode, config, whole, everything),
                attend_all<float>(Operator::kDecode, config, whole, everything));
  }
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "query blocks before dense_until attend to every key, the others search") {
  const HipConfig config = small_config();
  const Heads heads = heads_of(4, least_head_dim());
  const auto problem = make_problem<TestType>(heads, {{400, 400, 1}, {200, 90, 2}});
  constexpr std::int64_t kDenseUntil = 160;
  const auto result =
      run_attention(Operator::kPrefill, config, problem, {.dense_until = kDenseUntil});
  const auto dense = run_attention(Operator::kPrefill, presets::dense(), problem);
  const auto searched = run_attention(Operator::kPrefill, config, problem);
  const std::int64_t row_size = heads.num_q_heads * heads.head_dim;
  std::int64_t dense_blocks = 0;
  for (const QueryBlock& block : query_blocks(problem, Operator::kPrefill, config)) {
    const bool early = block.p0 < kDenseUntil;
    dense_blocks += early;
    const auto& expected = early ? dense : searched;
    const std::int64_t first = problem.first_row(block.request) + block.first_row;
    CHECK(same_bits(rows_of(result.out, first, block.rows, row_size),
                    rows_of(expected.out, first, block.rows, row_size)));
    for (std::int64_t head = 0; head < heads.num_kv_heads; ++head) {
      CHECK(result.selection.w0(block.selection_row, head) ==
            (early ? config.sink : searched.selection.w0(block.selection_row, head)));
      CHECK(result.selection.unit(block.selection_row, head) ==
            (early ? std::vector<std::int32_t>{}
                   : searched.selection.unit(block.selection_row, head)));
    }
  }
  CHECK(dense_blocks > 0);
  check_same_output(
      run_attention(Operator::kPrefill, config, problem, {.selection = &result.selection}), result);
}

HIP_ATTN_OPERATOR_TEST_CASE("NaN and infinity in one request never touch another") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const float poison = GENERATE(kNaN, kInfinity, -kInfinity);
  const Heads heads = heads_of(4, least_head_dim());
  const std::int64_t q_len = op == Operator::kDecode ? 4 : 30;
  const std::vector<RequestSpec> specs = {{90, q_len, 1}, {120, q_len, 2}, {200, q_len, 3}};
  const auto clean = make_problem<TestType>(heads, specs);
  auto poisoned = clean;
  auto& victim = poisoned.requests[1];
  for (auto* values : {&victim.k, &victim.v}) {
    std::fill(values->begin(), values->end(), from_float<CacheType<TestType>>(poison));
  }
  std::fill(victim.q.begin(), victim.q.end(), from_float<QueryType<TestType>>(poison));
  const auto result = run_attention(op, config, poisoned, {.device = device});
  for (const std::int64_t b : {0, 2}) {
    const auto alone = make_problem<TestType>(heads, {specs[b]});
    check_same_request(op, config, poisoned, result, b, 0, alone,
                       run_attention(op, config, alone, {.device = device}));
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("a row never sees the keys and values after it") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), landmark_config());
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const float poison = GENERATE(kNaN, kInfinity);
  const Heads heads = heads_of(4, least_head_dim());
  CAPTURE(op, device.type);
  const std::int64_t q_len = op == Operator::kDecode ? 8 : 40;
  const auto clean = make_problem<TestType>(heads, {{133, q_len, 1}});
  const auto expected = run_attention(op, config, clean, {.device = device});
  auto poisoned = clean;
  auto& request = poisoned.requests[0];
  for (auto* values : {&request.k, &request.v}) {  // the last three keys and values
    std::fill(values->begin() + request.kv_offset(130, 0), values->end(),
              from_float<CacheType<TestType>>(poison));
  }
  const auto result = run_attention(op, config, poisoned, {.device = device});
  const std::int64_t rows = q_len - 3;
  const std::int64_t row_size = heads.num_q_heads * heads.head_dim;
  CHECK(
      same_bits(rows_of(result.out, 0, rows, row_size), rows_of(expected.out, 0, rows, row_size)));
  CHECK(same_bits(rows_of(result.lse, 0, rows, heads.num_q_heads),
                  rows_of(expected.lse, 0, rows, heads.num_q_heads)));
}

HIP_ATTN_OPERATOR_TEST_CASE("a row of a window alone never sees the keys before its window") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const float poison = GENERATE(kNaN, kInfinity);
  // With a sink of three keys, keys of the sink and of the window share a tile.
  const HipConfig config = GENERATE(presets::sliding_window(30, 3), window_only_config());
  const Heads heads = heads_of(4, least_head_dim());
  CAPTURE(op, device.type, describe(config));
  const std::int64_t q_len = op == Operator::kDecode ? 8 : 40;
  const std::int64_t seq_len = 133;
  const auto clean = make_problem<TestType>(heads, {{seq_len, q_len, 1}});
  const auto expected = run_attention(op, config, clean, {.device = device});
  auto poisoned = clean;
  auto& request = poisoned.requests[0];
  // Everything between the sink and the window of row 4 of the call.
  const std::int64_t first_row = 4;
  const std::int64_t window = seq_len - q_len + first_row + 1 - config.window;
  for (auto* values : {&request.k, &request.v}) {
    std::fill(values->begin() + request.kv_offset(config.sink, 0),
              values->begin() + request.kv_offset(window, 0),
              from_float<CacheType<TestType>>(poison));
  }
  const auto result = run_attention(op, config, poisoned, {.device = device});
  const std::int64_t rows = q_len - first_row;
  const std::int64_t row_size = heads.num_q_heads * heads.head_dim;
  CHECK(same_bits(rows_of(result.out, first_row, rows, row_size),
                  rows_of(expected.out, first_row, rows, row_size)));
  CHECK(same_bits(rows_of(result.lse, first_row, rows, heads.num_q_heads),
                  rows_of(expected.lse, first_row, rows, heads.num_q_heads)));
  CHECK(std::isnan(result.lse[0]));  // which the first row still sees
}

HIP_ATTN_OPERATOR_TEST_CASE("a sink longer than every sequence is dense attention") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  HipConfig config = small_config();
  config.sink = GENERATE(std::int64_t{1} << 20, (std::int64_t{1} << 31) - 4, std::int64_t{1} << 40);
  const auto problem = make_problem<TestType>(heads_of(4, least_head_dim()), mixed_specs(op));
  const auto result = run_attention(op, config, problem, {.device = device});
  const auto dense = run_attention(op, presets::dense(), problem, {.device = device});
  check_close(result.out, result.lse,
              attend_all<double>(op, presets::dense(), problem, dense.selection),
              attend_all<float>(op, presets::dense(), problem, dense.selection));
  check_same_output(
      run_attention(op, config, problem, {.device = device, .selection = &result.selection}),
      result);
}

}  // namespace
}  // namespace hip_attn
