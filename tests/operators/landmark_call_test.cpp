// Landmarks as arguments of a call: where they lie changes nothing, and what is wrong with them is
// refused, or stays with the request whose they are.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
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

std::vector<RequestSpec> some_specs(Operator op) {
  const std::int64_t rows = op == Operator::kDecode ? 3 : 20;
  return {{300, rows, 1}, {0, rows, 2}, {177, rows, 3}, {40, rows, 4}, {431, rows, 5}};
}

template <TestedTypes P>
void check_same(const RunResult<P>& a, const RunResult<P>& b) {
  CHECK(same_bits(a.out, b.out));
  CHECK(same_bits(a.lse, b.lse));
  CHECK(a.selection.blocks == b.selection.blocks);
  CHECK(a.counters == b.counters);
}

HIP_ATTN_OPERATOR_TEST_CASE("where landmarks lie changes nothing") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()}, some_specs(op));
  const std::vector<std::int64_t> sizes = {8, 32};
  const auto expected =
      run_attention(op, config, problem,
                    {.device = device, .landmarks = {.chunk_sizes = sizes, .tables = false}});
  const LandmarkLayout layouts[] = {
      {.chunk_sizes = sizes, .by_head = false, .tables = false},
      {.chunk_sizes = sizes, .tables = false, .row_padding = 8},
      {.chunk_sizes = sizes, .landmarks_per_page = 1, .page_seed = 2},
      {.chunk_sizes = sizes, .landmarks_per_page = 1, .by_head = false, .page_seed = 3},
      {.chunk_sizes = sizes, .landmarks_per_page = 3, .page_seed = 4, .row_padding = 16},
      {.chunk_sizes = sizes, .landmarks_per_page = 16, .by_head = false, .page_seed = 5},
      {.chunk_sizes = sizes, .landmarks_per_page = 256, .page_seed = 6, .row_padding = 8},
  };
  for (const LandmarkLayout& layout : layouts) {
    for (const std::int64_t page_size : {1, 16, 256}) {
      CAPTURE(op, layout.landmarks_per_page, layout.by_head, layout.tables, page_size);
      check_same(run_attention(
                     op, config, problem,
                     {.device = device, .memory = {.page_size = page_size}, .landmarks = layout}),
                 expected);
    }
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("requests with a prefix in common share its landmarks") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  const std::int64_t rows = op == Operator::kDecode ? 2 : 18;
  // Requests of one seed have the same keys.
  const auto problem =
      make_problem<TestType>({4, 2, least_head_dim()}, {{400, rows, 1}, {312, rows, 1}});
  const auto apart = run_attention(op, config, problem, {.device = device});
  // Those of the longer one alone, in one page that both tables name.
  const Problem<TestType> longer{problem.heads, {problem.requests[0]}};
  LandmarkMemory<TestType> shared(device, longer,
                                  {.chunk_sizes = {8, 32}, .spread = 1.f, .tables = false});
  shared.write_reference(longer);
  const DeviceBuffer<std::int32_t> table(device, std::vector<std::int32_t>{0, 0});
  const AttentionPlan plan = make_plan<TestType>(op, config, problem.shape(device));
  CallMemory<TestType> memory(plan, problem, {});
  auto landmarks = shared.view();
  for (int i = 0; i < landmarks.num_levels; ++i) {
    landmarks.levels[i].block_table = TensorView<const std::int32_t, 2>(table.data(), {2, 1});
  }
  memory.args().landmarks = landmarks;
  REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
  check_same(memory.read(), apart);
}

HIP_ATTN_OPERATOR_TEST_CASE("NaN and infinity in one request's landmarks never touch another") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  const float poison = GENERATE(kNaN, kInfinity, -kInfinity);
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()}, some_specs(op));
  auto spoilt = problem;
  for (auto& key : spoilt.requests[2].k) key = from_float<CacheType<TestType>>(poison);
  const auto expected = run_attention(op, config, problem, {.device = device});
  const AttentionPlan plan = make_plan<TestType>(op, config, problem.shape(device));
  CallMemory<TestType> memory(plan, problem, {});
  memory.landmarks().write_reference(spoilt);  // the keys stay good
  REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
  const auto result = memory.read();
  const std::int64_t row = 4 * least_head_dim();
  const auto part = [&](const auto& values, std::int64_t first, std::int64_t last,
                        std::int64_t size) {
    return std::vector(values.begin() + first * size, values.begin() + last * size);
  };
  const std::int64_t first = problem.first_row(2);
  const std::int64_t last = problem.first_row(3);
  CHECK(same_bits(part(result.out, 0, first, row), part(expected.out, 0, first, row)));
  CHECK(same_bits(part(result.out, last, problem.total_q(), row),
                  part(expected.out, last, problem.total_q(), row)));
  // Nor does it make the request's own output anything but attention to good keys.
  for (const auto value : part(result.out, first, last, row)) {
    CHECK(std::isfinite(to_float(value)));
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("what lies behind the last landmark read is not looked at") {
  // The last complete chunks lie in the window: they may be stale, such as after a rollback.
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()}, {{447, 1, 1}});
  const auto expected = run_attention(Operator::kDecode, config, problem, {.device = device});
  const AttentionPlan plan = make_plan<TestType>(Operator::kDecode, config, problem.shape(device));
  CallMemory<TestType> memory(plan, problem, {});
  auto stale = problem;
  // W0 is 404, whose chunk of 32 ends at 416.
  auto& request = stale.requests[0];
  std::fill(request.k.begin() + request.kv_offset(416, 0), request.k.end(),
            from_float<CacheType<TestType>>(kNaN));
  memory.landmarks().write_reference(stale);
  REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
  check_same(memory.read(), expected);
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "a cache of sums that is refreshed from any stage gives the same bits") {
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()}, {{400, 2, 1}, {150, 1, 2}});
  const auto expected = run_attention(Operator::kDecode, config, problem, {.device = device});
  const AttentionPlan plan = make_plan<TestType>(Operator::kDecode, config, problem.shape(device));
  const DeviceBuffer<std::byte> bytes(
      device, 2 * static_cast<std::int64_t>(plan.selection_cache_slot_bytes), std::byte{0});
  const auto step = [&](const Problem<TestType>& each, std::int32_t refresh_from) {
    const DeviceBuffer<std::int32_t> refresh(device, std::vector<std::int32_t>(2, refresh_from));
    return run_attention(Operator::kDecode, config, each,
                         {.device = device,
                          .cache = SelectionCache{bytes.data(), 2, {refresh.data(), {2}}, {}},
                          .planned = problem.shape(device)});
  };
  for (std::int32_t refresh_from = 0; refresh_from <= config.num_stages(); ++refresh_from) {
    CAPTURE(refresh_from);
    const auto result = step(problem, refresh_from);
    CHECK(same_bits(result.out, expected.out));
    CHECK(result.selection.blocks == expected.selection.blocks);
    for (int s = 0; s < config.num_stages(); ++s) {
      CHECK(result.counters[s] == (s < refresh_from ? 0 : expected.counters[s]));
    }
  }
  // After a rollback everything runs, and what is appended then is searched anew.
  const auto shorter = make_problem<TestType>({4, 2, least_head_dim()}, {{340, 2, 1}, {100, 1, 2}});
  const auto back = step(shorter, config.num_stages());
  const auto fresh = run_attention(Operator::kDecode, config, shorter,
                                   {.device = device, .planned = problem.shape(device)});
  CHECK(same_bits(back.out, fresh.out));
  CHECK(back.selection.blocks == fresh.selection.blocks);
  CHECK(back.counters == fresh.counters);
}

HIP_ATTN_OPERATOR_TEST_CASE("a request that takes over pages is searched by landmarks of its own") {
  using C = CacheType<TestType>;
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  const auto next = make_problem<TestType>({4, 2, least_head_dim()}, {{300, 3, 1}, {431, 3, 2}});
  const auto former = make_problem<TestType>({4, 2, least_head_dim()}, {{300, 3, 3}, {431, 3, 4}});
  auto before = next;  // its queries, the former requests' cache
  for (std::size_t b = 0; b < 2; ++b) {
    before.requests[b].k = former.requests[b].k;
    before.requests[b].v = former.requests[b].v;
  }
  const auto expected = run_attention(op, config, next, {.device = device});
  const AttentionPlan plan = make_plan<TestType>(op, config, next.shape(device));
  CallMemory<TestType> memory(plan, before, {});

  std::vector<C> k;
  std::vector<C> v;
  std::vector<std::int64_t> slots;
  for (std::int64_t b = 0; b < 2; ++b) {
    const auto& request = next.requests[b];
    k.insert(k.end(), request.k.begin(), request.k.end());
    v.insert(v.end(), request.v.begin(), request.v.end());
    for (std::int64_t t = 0; t < request.seq_len; ++t) slots.push_back(memory.kv().slot(b, t));
  }
  const DeviceBuffer<C> k_memory(device, k);
  const DeviceBuffer<C> v_memory(device, v);
  const DeviceBuffer<std::int64_t> slot_memory(device, slots);
  AppendKvArgs<C> append;
  append.k = {k_memory.data(), {slot_memory.size(), 2, least_head_dim()}};
  append.v = {v_memory.data(), append.k.sizes};
  append.slot_mapping = {slot_memory.data(), {slot_memory.size()}};
  append.pages = memory.kv().pages();
  REQUIRE(append_kv<C>(device, append).ok());
  REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
  CHECK(memory.read().selection.blocks != expected.selection.blocks);  // by the former landmarks
  REQUIRE(memory.landmarks().update(memory.kv().view(), next).ok());
  REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
  const auto result = memory.read();
  CHECK(same_bits(result.out, expected.out));
  CHECK(result.selection.blocks == expected.selection.blocks);
}

// ---- What is refused ----------------------------------------------------------------------------

using T = AnyElement;

/// A good call by landmarks: two requests of 300 and 431 keys.
struct LandmarkCall {
  explicit LandmarkCall(Operator op)
      : problem(make_problem<T>({4, 2, least_head_dim()}, {{300, 2, 1}, {431, 3, 2}})),
        plan(make_plan<T>(op, landmark_config(), problem.shape(kCpu))),
        memory(plan, problem, {}) {}

  [[nodiscard]] Status run() { return run_operator<T>(plan, memory.args(), memory.workspace()); }
  [[nodiscard]] Landmarks<const T>& landmarks() { return *memory.args().landmarks; }

  Problem<T> problem;
  AttentionPlan plan;
  CallMemory<T> memory;
};

struct LandmarkCase {
  StatusCode code;
  Mentions mentions;
  std::function<void(LandmarkCall&)> spoil;
};

TEST_CASE("landmarks that do not hold are refused by name, value and what fits") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  constexpr auto kShape = StatusCode::kInvalidShape;
  const std::vector<LandmarkCase> cases = {
      {kShape,
       {"landmarks is absent", "kLandmark"},
       [](LandmarkCall& c) { c.memory.args().landmarks.reset(); }},
      {kShape,
       {"landmarks.num_levels", "-1", "0 to 8"},
       [](LandmarkCall& c) { c.landmarks().num_levels = -1; }},
      {kShape,
       {"landmarks.num_levels", "9", "0 to 8"},
       [](LandmarkCall& c) { c.landmarks().num_levels = 9; }},
      {kShape,
       {"landmarks has levels of chunk_size {8}", "one of 32"},
       [](LandmarkCall& c) { c.landmarks().num_levels = 1; }},
      {kShape,
       {"landmarks has levels of chunk_size {16, 32}", "one of 8"},
       [](LandmarkCall& c) { c.landmarks().levels[0].chunk_size = 16; }},
      {kShape,
       {"landmarks.levels[0].chunk_size is 24", "power of two"},
       [](LandmarkCall& c) { c.landmarks().levels[0].chunk_size = 24; }},
      {kShape,
       {"landmarks.levels[0].chunk_size is 0", "power of two"},
       [](LandmarkCall& c) { c.landmarks().levels[0].chunk_size = 0; }},
      {kShape,
       {"landmarks.levels[1].chunk_size is 8", "above", "(8)"},
       [](LandmarkCall& c) { c.landmarks().levels[1].chunk_size = 8; }},
      {kShape,
       {"landmarks.levels[1].rows.sizes[2]", "1", "2"},
       [](LandmarkCall& c) { c.landmarks().levels[1].rows.sizes[2] = 1; }},
      {kShape,
       {"landmarks.levels[1].rows.sizes[3]", "1", "2"},
       [](LandmarkCall& c) { c.landmarks().levels[1].rows.sizes[3] = 1; }},
      {kShape,
       {"landmarks.levels[0].rows.sizes[4]", "8"},
       [](LandmarkCall& c) { c.landmarks().levels[0].rows.sizes[4] = 8; }},
      {kShape,
       {"landmarks.levels[0].rows.sizes[1]", "0", "at least 1"},
       [](LandmarkCall& c) { c.landmarks().levels[0].rows.sizes[1] = 0; }},
      {kShape,
       {"landmarks.levels[0].block_table.sizes[0]", "1", "2"},
       [](LandmarkCall& c) { c.landmarks().levels[0].block_table->sizes[0] = 1; }},
      {StatusCode::kNullPointer,
       {"landmarks.levels[0].rows"},
       [](LandmarkCall& c) { c.landmarks().levels[0].rows.data = nullptr; }},
      {StatusCode::kMisalignedPointer,
       {"landmarks.levels[1].rows"},
       [](LandmarkCall& c) { c.landmarks().levels[1].rows.strides[1] += 1; }},
      {StatusCode::kInvalidScalar,
       {"landmarks.spread", "1.5", "0 to 1"},
       [](LandmarkCall& c) { c.landmarks().spread = 1.5f; }},
      {StatusCode::kInvalidScalar,
       {"landmarks.spread", "nan", "0 to 1"},
       [](LandmarkCall& c) { c.landmarks().spread = kNaN; }},
      // 431 keys: W0 is 388 or before it, whose chunk of 8 is landmark 48.
      {StatusCode::kSeqLenBeyondBlockTable,
       {"seq_lens[1] is 431", "landmarks 0 to 48 of chunk_size 8", "hold 45"},
       [](LandmarkCall& c) { c.landmarks().levels[0].block_table->sizes[1] = 9; }},
      {StatusCode::kSeqLenBeyondBlockTable,
       {"seq_lens[0] is 300", "of chunk_size 32", "hold 5"},
       [](LandmarkCall& c) { c.landmarks().levels[1].block_table.reset(); }},
  };
  for (const LandmarkCase& each : cases) {
    CAPTURE(op, each.mentions.front());
    LandmarkCall call(op);
    REQUIRE(call.run().ok());
    each.spoil(call);
    check_refused(call.run(), each.code, each.mentions);
  }
}

TEST_CASE("entries of a landmark table that are no pages are refused when they are read") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  for (const std::int32_t bad : {-1, 1000, std::numeric_limits<std::int32_t>::max(),
                                 std::numeric_limits<std::int32_t>::min()}) {
    LandmarkCall call(op);
    auto& table = *call.landmarks().levels[1].block_table;
    std::vector<std::int32_t> entries(table.data, table.data + 2 * table.sizes[1]);
    entries[table.sizes[1] + 1] = bad;  // landmarks 5 to 9 of request 1
    const DeviceBuffer<std::int32_t> changed(kCpu, entries);
    table.data = changed.data();
    const std::string pages = std::to_string(call.landmarks().levels[1].num_pages() - 1);
    check_refused(call.run(), StatusCode::kInvalidPage,
                  {"landmarks.levels[1].block_table[1][1] is " + std::to_string(bad) +
                   "; pages are 0 to " + pages});
  }
}

TEST_CASE("a request without rows needs no landmarks") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto problem = make_problem<T>({4, 2, least_head_dim()}, {{300, 2, 1}, {431, 0, 2}});
  const AttentionPlan plan = make_plan<T>(op, landmark_config(), problem.shape(kCpu));
  CallMemory<T> memory(plan, problem, {});
  // 7 pages of 5 landmarks of 8 keys do for 300 keys, not for 431.
  memory.args().landmarks->levels[0].block_table->sizes[1] = 7;
  const Status status = run_operator<T>(plan, memory.args(), memory.workspace());
  INFO(status.message());
  CHECK(status.ok());
}

TEST_CASE("a selection that is given needs no landmarks") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  LandmarkCall call(op);
  REQUIRE(call.run().ok());
  const auto searched = call.memory.read();
  const SelectionMemory given(kCpu, searched.selection);
  call.memory.args().selection = given.view();
  call.memory.args().landmarks.reset();
  REQUIRE(call.run().ok());
  CHECK(same_bits(call.memory.read().out, searched.out));
}

TEST_CASE("a plan for more chunks than a landmark stage scores names the preset that fits") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  AttentionShape shape;
  shape.max_seq_len = 300000;
  shape.head_dim = least_head_dim();
  AttentionPlan plan;
  const HipConfig config = presets::landmark(1);
  check_refused(op == Operator::kPrefill ? plan_prefill<T>(config, shape, plan)
                                         : plan_decode<T>(config, shape, plan),
                StatusCode::kInvalidConfig,
                {"stages[0].chunk_size is 64", "max_seq_len 300000", "presets::landmark(300000)"});
  const HipConfig fits = presets::landmark(300000);
  CHECK((op == Operator::kPrefill ? plan_prefill<T>(fits, shape, plan)
                                  : plan_decode<T>(fits, shape, plan))
            .ok());
}

}  // namespace
}  // namespace hip_attn
