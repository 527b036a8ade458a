// Prefill on CUDA against the CPU backend: the same calls, the same selections to the block,
// outputs to rounding, by both attention kernels. What prefill must do in itself is tested on every
// device elsewhere. [sanitize]: a small part of everything, for compute-sanitizer.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/hip_attn.hpp"
#include "hip_attn_instantiations.hpp"
#include "support/attention_oracle.hpp"
#include "support/backends.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"

#if HIP_ATTN_HAS_CUDA
#include <cuda_runtime_api.h>

#define HIP_ATTN_TYPED_CUDA_TEST_CASE(name, tags) \
  HIP_ATTN_TYPED_TEST_CASE_(name, tags HIP_ATTN_FOR_EACH_ELEMENT_TYPE(HIP_ATTN_NEXT_TYPE_))

namespace hip_attn {
namespace {

using namespace test;

#define REQUIRE_CUDA_FOR(T)                                                             \
  if (std::same_as<T, float>) HIP_ATTN_SKIP("CUDA prefill takes float16 and bfloat16"); \
  if (const Status device_status = check_device(cuda_device()); !device_status.ok())    \
  HIP_ATTN_SKIP(device_status.message())

template <Element T>
void require_same_bits(const RunResult<T>& a, const RunResult<T>& b) {
  CHECK(same_bits(a.out, b.out));
  CHECK(same_bits(a.lse, b.lse));
}

std::vector<RequestSpec> random_requests(Choices& choices, std::int64_t longest) {
  std::vector<RequestSpec> specs;
  for (std::int64_t b = choices.between(1, 4); b > 0; --b) {
    const std::int64_t seq_len = choices.one_in(8) ? 0 : choices.between(1, longest);
    const std::int64_t rows = choices.one_in(6) ? 0 : choices.between(1, 150);
    specs.push_back({seq_len, seq_len == 0 ? rows % 4 : std::min(seq_len, rows),
                     static_cast<std::uint64_t>(choices.between(1, 1000))});
  }
  return specs;
}

MemoryLayout random_layout(Choices& choices) {
  MemoryLayout layout;
  layout.order = choices.of({KvOrder::kNhd, KvOrder::kHnd, KvOrder::kContiguous});
  layout.page_size = choices.of({1, 3, 16, 64});
  layout.row_padding = choices.one_in(3) ? 8 : 0;
  layout.interleave_kv = choices.one_in(3);
  layout.other_order_of_v = choices.one_in(4);
  return layout;
}

// On both backends and by both attention kernels; the selection given back in gives the same bits.
template <Element T>
void compare(const HipConfig& config, const Problem<T>& problem, RunOptions options = {}) {
  const auto cpu = run_attention(Operator::kPrefill, config, problem, options);
  options.device = cuda_device();
  if (options.planned) options.planned->device = options.device;
  for (const bool hopper : {true, false}) {
    CAPTURE(hopper);
    options.hopper = hopper;
    options.selection = nullptr;
    const auto cuda = run_attention(Operator::kPrefill, config, problem, options);
    require_same(cpu, cuda);
    options.selection = &cuda.selection;
    require_same_bits(run_attention(Operator::kPrefill, config, problem, options), cuda);
  }
}

template <Element T>
void compare_random(std::uint64_t seed, int cases, std::int64_t longest) {
  Choices choices(seed);
  for (int i = 0; i < cases; ++i) {
    const HipConfig config = with_maxima(random_config(choices, 4));
    Heads heads;
    heads.head_dim = head_dims()[choices.between(0, std::ssize(head_dims()) - 1)];
    heads.num_kv_heads = choices.of({1, 2, 3});
    heads.num_q_heads = heads.num_kv_heads * choices.of({1, 2, 3, 4, 7, 8, 16});
    const Values values = choices.one_in(4) ? Values::kTies : Values::kExact;
    const auto problem = make_problem<T>(
        heads, random_requests(choices, choices.of<std::int64_t>({40, 300, longest})), values);
    RunOptions options;
    options.memory = random_layout(choices);
    if (choices.one_in(3)) options.logit_softcap = 20.f;
    if (choices.one_in(3)) options.scale = 0.05f;
    INFO("case " << i << ": " << describe(config) << "; D " << heads.head_dim << ", Hq "
                 << heads.num_q_heads << ", Hk " << heads.num_kv_heads);
    compare(config, problem, options);
  }
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill selects, counts and attends as the CPU does",
                              "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  compare_random<TestType>(31, 60, 1500);
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill, a little of everything", "[cuda][prefill][sanitize]") {
  REQUIRE_CUDA_FOR(TestType);
  compare_random<TestType>(32, 4, 200);
}

// What racecheck finishes: every kind of kernel once, on as little as shows it.
HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill in small, for compute-sanitizer",
                              "[cuda][prefill][sanitize]") {
  REQUIRE_CUDA_FOR(TestType);
  const HipConfig config = GENERATE(small_config(), window_only_config(), presets::dense());
  CAPTURE(describe(config));
  const auto problem = make_problem<TestType>(
      {4, 2, least_head_dim()}, {{150, 40, 1}, {0, 1, 2}, {20, 20, 3}}, Values::kExact);
  compare(config, problem);
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill by landmarks in small, for compute-sanitizer",
                              "[cuda][prefill][sanitize]") {
  REQUIRE_CUDA_FOR(TestType);
  const bool hopper = GENERATE(true, false);
  const auto problem =
      make_problem<TestType>({4, 2, least_head_dim()}, {{150, 40, 1}, {0, 1, 2}, {20, 20, 3}});
  check_attention(Operator::kPrefill, landmark_config(), problem,
                  run_attention(Operator::kPrefill, landmark_config(), problem,
                                {.device = cuda_device(), .hopper = hopper}));
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill of long contexts selects as the CPU does",
                              "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  const HipConfig config = GENERATE(presets::infinite_hip(), presets::infinite_hip_5k(),
                                    presets::hip_classic(65536, 1024, 16), presets::dense());
  CAPTURE(describe(config));
  const std::int64_t head_dim = head_dims().back();
  const auto problem = make_problem<TestType>(
      {8, 2, head_dim}, {{40000, 70, 1}, {0, 1, 3}, {1500, 130, 4}, {40, 0, 5}}, Values::kExact);
  compare(config, problem);
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill gives the same bits every time", "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  const auto problem = make_problem<TestType>({8, 2, 128}, {{9000, 500, 1}, {300, 300, 2}});
  const bool hopper = GENERATE(true, false);
  const RunOptions options{.device = cuda_device(), .hopper = hopper};
  const auto once = run_attention(Operator::kPrefill, presets::infinite_hip(), problem, options);
  for (int i = 0; i < 5; ++i) {
    const auto again = run_attention(Operator::kPrefill, presets::infinite_hip(), problem, options);
    require_same_bits(again, once);
    CHECK(again.selection.blocks == once.selection.blocks);
  }
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill of what does not fit shared memory",
                              "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  SECTION("more chunks") {
    HipConfig config;
    config.sink = 8;
    config.window = 16;
    config.stages = {{8, 80000, 4}, {2, 60000, 1}};
    config.max_first_chunks = 10000;
    auto problem = make_problem<TestType>({4, 2, least_head_dim()}, {{3000, 70, 1}, {90, 90, 2}},
                                          Values::kExact);
    RunOptions options;
    options.planned = problem.shape(kCpu);
    options.planned->max_seq_len = 200000;
    compare(config, problem, options);
    problem = make_problem<TestType>({2, 1, least_head_dim()}, {{100000, 33, 1}}, Values::kExact);
    compare(config, problem);
  }
  SECTION("more query rows") {
    HipConfig config = small_config();
    config.block_q = 256;
    const auto problem = make_problem<TestType>({32, 2, head_dims().back()},
                                                {{700, 300, 1}, {50, 50, 2}}, Values::kExact);
    compare(config, problem);
  }
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill attends densely where the CPU does",
                              "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  const auto problem = make_problem<TestType>({4, 2, least_head_dim()},
                                              {{400, 400, 1}, {200, 90, 2}}, Values::kExact);
  for (const std::int64_t dense_until : {160, 1000}) {
    compare(small_config(), problem, {.dense_until = dense_until});
  }
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill is accurate on adversarial inputs", "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  const bool hopper = GENERATE(true, false);
  const HipConfig config = GENERATE(small_config(), presets::dense());
  const Heads heads{8, 2, 128};
  const auto clean = make_problem<TestType>(heads, {{500, 130, 1}, {90, 90, 2}});
  const auto check = [&](const Problem<TestType>& problem) {
    const auto result = run_attention(Operator::kPrefill, config, problem,
                                      {.device = cuda_device(), .hopper = hopper});
    check_attention(Operator::kPrefill, config, problem, result);
  };
  CAPTURE(hopper, config.num_stages());
  SECTION("huge logits") {
    auto problem = clean;
    for (auto& request : problem.requests) {
      for (auto* values : {&request.q, &request.k}) {
        for (TestType& x : *values) x = from_float<TestType>(to_float(x) * 30.f);
      }
    }
    check(problem);
  }
  SECTION("equal scores everywhere") {
    check(make_problem<TestType>(heads, {{500, 130, 1}, {90, 90, 2}}, Values::kTies));
  }
  SECTION("one giant key") {
    auto problem = clean;
    auto& request = problem.requests[0];
    for (std::int64_t i = 0; i < heads.num_kv_heads * heads.head_dim; ++i) {
      TestType& x = request.k[request.kv_offset(301, 0) + i];
      x = from_float<TestType>(to_float(x) * 500.f);
    }
    check(problem);
  }
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill answers what does not hold with NaN rows of it alone",
                              "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  const bool hopper = GENERATE(true, false);
  const HipConfig config = small_config();
  const Heads heads{4, 2, least_head_dim()};
  const auto problem = make_problem<TestType>(heads, {{200, 50, 1}, {300, 40, 2}, {100, 30, 3}});
  AttentionPlan plan =
      make_plan<TestType>(Operator::kPrefill, config, problem.shape(cuda_device()));
  if (!hopper) cuda::use_portable_kernels(plan);
  const std::int64_t request_rows = GENERATE(0, 50);
  CallMemory<TestType> memory(plan, problem, {.request_rows = request_rows});
  const auto good = run_attention(Operator::kPrefill, config, problem,
                                  {.device = cuda_device(), .hopper = hopper});
  const std::int64_t row_size = heads.num_q_heads * heads.head_dim;
  // Where is_bad(row, query head), NaN, elsewhere as `good`.
  const auto check_rows = [&](auto&& is_bad) {
    const auto result = memory.read();
    for (std::int64_t i = 0; i < std::ssize(result.out); ++i) {
      const std::int64_t row = i / row_size;
      const std::int64_t head = i % row_size / heads.head_dim;
      const float value = to_float(result.out[i]);
      CAPTURE(row, head);
      if (is_bad(row, head)) {
        REQUIRE(value != value);
        REQUIRE(std::isnan(result.lse[row * heads.num_q_heads + head]));
      } else {
        REQUIRE(value == to_float(good.out[i]));
      }
    }
    REQUIRE(memory.untouched_around_outputs());
  };
  SECTION("lengths") {
    const std::int32_t bad_length = GENERATE(3000000, -1, 39);
    const DeviceBuffer<std::int32_t> lengths(cuda_device(),
                                             std::vector<std::int32_t>{200, bad_length, 100});
    memory.args().seq_lens = {lengths.data(), {3}};
    REQUIRE(run_prefill(plan, memory.args(), memory.workspace()).ok());
    check_rows([](std::int64_t row, std::int64_t) { return row >= 50 && row < 90; });
  }
  SECTION("more rows than q has of a request") {
    if (request_rows == 0) return;
    memory.args().q.sizes[0] = 45;
    REQUIRE(run_prefill(plan, memory.args(), memory.workspace()).ok());
    check_rows([](std::int64_t row, std::int64_t) { return row < 50; });
  }
  SECTION("a selection") {
    const auto block = query_blocks(problem, Operator::kPrefill, config)[2];
    HostSelection bad = good.selection;
    auto blocks = bad.unit(block.selection_row, 1);
    REQUIRE(blocks.size() > 2);
    std::swap(blocks[0], blocks[1]);
    bad.set_unit(block.selection_row, 1, bad.w0(block.selection_row, 1), blocks);
    const SelectionMemory given(cuda_device(), bad);
    memory.args().selection = given.view();
    REQUIRE(run_prefill(plan, memory.args(), memory.workspace()).ok());
    const std::int64_t first = problem.first_row(block.request) + block.first_row;
    check_rows([&](std::int64_t row, std::int64_t head) {
      return row >= first && row < first + block.rows && head >= 2;
    });
  }
  SECTION("a page") {
    // The last page of the last request: keys 96 to 99, which its last four rows see.
    const auto& view = *memory.args().kv.block_table;
    std::vector<std::int32_t> table(view.strides[0] * 3);
    REQUIRE(cudaMemcpy(table.data(), view.data, table.size() * sizeof(std::int32_t),
                       cudaMemcpyDeviceToHost) == cudaSuccess);
    table[2 * view.strides[0] + 6] = GENERATE(-1, 1 << 20);
    const DeviceBuffer<std::int32_t> bad(cuda_device(), table);
    memory.args().kv.block_table =
        TensorView<const std::int32_t, 2>(bad.data(), view.sizes, view.strides);
    REQUIRE(run_prefill(plan, memory.args(), memory.workspace()).ok());
    check_rows([](std::int64_t row, std::int64_t) { return row >= 116; });
  }
}

HIP_ATTN_TYPED_CUDA_TEST_CASE(
    "CUDA prefill refuses more stages or query rows than it takes by number", "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  AttentionShape shape{cuda_device(), 1, 100000, 100000, 8, 1, least_head_dim()};
  AttentionPlan plan;
  HipConfig config = presets::dense();
  config.block_q = 4096;
  Status status = plan_prefill<TestType>(config, shape, plan);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.message().find("32768") != std::string::npos);
  CHECK(status.message().find("16384") != std::string::npos);
  config = small_config();
  config.refresh_interval.clear();
  config.stages.assign(33, ScanStage{4, 32, 1, ScanRule::kCentre});
  status = plan_prefill<TestType>(config, shape, plan);
  CHECK(status.code() == StatusCode::kInvalidConfig);
  CHECK(status.message().find("33") != std::string::npos);
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill reads pages beyond the 2^31st element",
                              "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  const bool hopper = GENERATE(true, false);
  const HipConfig config = small_config();
  const Heads heads{4, 2, least_head_dim()};
  constexpr std::int64_t kPage = 128;
  const auto problem = make_problem<TestType>(heads, {{2 * kPage - 9, 70, 1}});
  const auto& request = problem.requests[0];
  const auto expected = run_attention(Operator::kPrefill, config, problem,
                                      {.device = cuda_device(), .hopper = hopper});

  // Pages 0 and 1, the second 2^31 + 64 elements on, each keys and then values.
  const std::int64_t row = heads.num_kv_heads * heads.head_dim;
  const std::int64_t page_stride = (std::int64_t{1} << 31) + 64;
  void* allocated = nullptr;
  REQUIRE(cudaMalloc(&allocated, (page_stride + 2 * kPage * row) * sizeof(TestType)) ==
          cudaSuccess);
  auto* memory = static_cast<TestType*>(allocated);
  for (std::int64_t page = 0; page < 2; ++page) {
    const std::int64_t tokens = std::min(kPage, request.seq_len - page * kPage);
    const auto* keys = request.k.data() + page * kPage * row;
    const auto* values = request.v.data() + page * kPage * row;
    TestType* to = memory + page * page_stride;
    const std::size_t bytes = tokens * row * sizeof(TestType);
    REQUIRE(cudaMemcpy(to, keys, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
    REQUIRE(cudaMemcpy(to + kPage * row, values, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
  }
  AttentionPlan plan =
      make_plan<TestType>(Operator::kPrefill, config, problem.shape(cuda_device()));
  if (!hopper) cuda::use_portable_kernels(plan);
  CallMemory<TestType> call(plan, problem, {});
  auto& pages = call.args().kv.pages;
  const std::array<std::int64_t, 4> sizes{2, kPage, heads.num_kv_heads, heads.head_dim};
  const std::array<std::int64_t, 4> strides{page_stride, row, heads.head_dim, 1};
  pages.k = TensorView<const TestType, 4>(memory, sizes, strides);
  pages.v = TensorView<const TestType, 4>(memory + kPage * row, sizes, strides);
  const DeviceBuffer<std::int32_t> table(cuda_device(), std::vector<std::int32_t>{0, 1});
  call.args().kv.block_table = TensorView<const std::int32_t, 2>(table.data(), {1, 2});
  const Status status = run_prefill(plan, call.args(), call.workspace());
  const auto result = call.read();
  cudaFree(allocated);
  REQUIRE(status.ok());
  require_same_bits(result, expected);
  CHECK(result.selection.blocks == expected.selection.blocks);
}

HIP_ATTN_TYPED_CUDA_TEST_CASE("CUDA prefill can be captured in a graph", "[cuda][prefill]") {
  REQUIRE_CUDA_FOR(TestType);
  const auto problem = make_problem<TestType>({8, 2, least_head_dim()}, {{900, 200, 1}});
  const auto expected =
      run_attention(Operator::kPrefill, small_config(), problem, {.device = cuda_device()});
  const AttentionPlan plan =
      make_plan<TestType>(Operator::kPrefill, small_config(), problem.shape(cuda_device()));
  CallMemory<TestType> memory(plan, problem, {});
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  const Status status = run_prefill(plan, memory.args(), memory.workspace(), stream);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(status.ok());
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  require_same(expected, memory.read());
  require_same_bits(memory.read(), expected);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace hip_attn
#endif
