// Indices of a trained indexer: a row attends to the keys of its blocks, and to nothing else.
#include "hip_attn/index_selection.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "support/attention_oracle.hpp"
#include "support/built.hpp"
#include "support/index_call.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"
#include "support/through_c.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr std::int64_t kTopK = 9;

/// What an indexer needs of a configuration: its granularity, and nothing that is attended besides.
HipConfig index_config(std::int32_t granularity, std::int64_t sink = 0) {
  return {.sink = sink,
          .window = 1,
          .block_q = 1,
          .stages = {{.chunk_size = granularity, .keep = kTopK * granularity}}};
}

/// The selection that a device makes, after a look that C and the CPU make the same.
template <TestedTypes P>
HostSelection selection_of(Device device, const AttentionPlan& cpu_plan, const Problem<P>& problem,
                           const Indices& indices) {
  const HostSelection made = IndexCall(plan_on(device, cpu_plan), problem, indices).made();
  check_same(made, IndexCall(plan_on(device, cpu_plan), problem, indices).made_through_c());
  check_same(made, IndexCall(cpu_plan, problem, indices).made());
  return made;
}

/// Every operation in Float, over the keys that the indices name.
template <typename Float, TestedTypes P>
RowStates<Float> attend_indices(const Problem<P>& problem, const HipConfig& config,
                                const Indices& indices) {
  const Heads& heads = problem.heads;
  RowStates<Float> states;
  states.out.assign(problem.total_q() * heads.num_q_heads * heads.head_dim, 0);
  states.lse.assign(problem.total_q() * heads.num_q_heads, -std::numeric_limits<Float>::infinity());
  std::int64_t query = -1;
  for (const Request<P>& request : problem.requests) {
    for (std::int64_t row = 0; row < request.q_len; ++row) {
      ++query;
      if (request.seq_len == 0) continue;
      for (std::int64_t head = 0; head < heads.num_q_heads; ++head) {
        const std::int32_t* blocks = indices.row(query, head / heads.group());
        std::vector<std::int64_t> keys;
        for (std::int64_t t = 0; t <= request.first_position() + row; ++t) {
          const bool listed = std::find(blocks, blocks + indices.top_k, t / config.block_k()) !=
                              blocks + indices.top_k;
          if (t < config.sink || listed) keys.push_back(t);
        }
        const std::int64_t at = query * heads.num_q_heads + head;
        attend_row<Float>(request, row, head, keys, {}, &states.out[at * heads.head_dim],
                          &states.lse[at]);
      }
    }
  }
  return states;
}

HIP_ATTN_OPERATOR_TEST_CASE("rows attend to the blocks that an indexer names, and no others") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const std::int32_t granularity = GENERATE(1, 4, 64, 128);
  const std::int64_t index_heads = GENERATE(1, 2);
  const std::int64_t sinks = GENERATE(0, 1);
  CAPTURE(op, granularity, index_heads, sinks);
  const HipConfig config = index_config(granularity, sinks * granularity);
  const std::int64_t rows = op == Operator::kDecode ? 1 : 40;
  const auto problem = make_problem<TestType>(
      {4, 2, least_head_dim()},
      {{300, rows, 1}, {rows, rows, 2}, {0, 1, 3}, {131, std::min<std::int64_t>(rows, 3), 4}});
  const Indices indices = random_indices(problem, granularity, index_heads, kTopK);
  const HostSelection selection =
      selection_of(device, make_plan<TestType>(op, config, problem.shape(kCpu)), problem, indices);
  // Of requests long enough for kTopK blocks, so that a selection is as wide as the indices.
  AttentionShape shape = problem.shape(device);
  shape.max_seq_len = 4096;
  const auto result = run_attention<TestType>(
      op, config, problem, {.device = device, .selection = &selection, .planned = shape});
  check_close<QueryType<TestType>>(result.out, result.lse,
                                   attend_indices<double>(problem, config, indices),
                                   attend_indices<float>(problem, config, indices));
}

TEST_CASE("a list of indices of any length becomes ascending, each block once") {
  const Device device = GENERATE(from_range(data_devices()));
  // Around a warp, and what a thread block sorts in shared memory or does not.
  const std::int64_t top_k = GENERATE(0, 1, 2, 31, 33, 64, 100, 2048, 2049, 8192, 8193, 20001);
  const std::int64_t seq_len = GENERATE(100, 30000);
  CAPTURE(device.type, top_k, seq_len);
  const HipConfig config{
      .sink = 4, .window = 1, .block_q = 1, .stages = {{.chunk_size = 1, .keep = 1}}};
  const auto problem =
      make_problem<AnyElement>({2, 2, least_head_dim()}, {{seq_len, 1, 1}, {seq_len - 1, 1, 2}});
  const AttentionPlan plan = make_plan<AnyElement>(Operator::kDecode, config, problem.shape(kCpu));
  const Indices indices = random_indices(problem, 1, 2, top_k);
  const HostSelection made = IndexCall(plan_on(device, plan), problem, indices).made();
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t head = 0; head < 2; ++head) {
      CAPTURE(b, head);
      const std::int32_t* given = indices.row(b, head);
      const std::int64_t own = seq_len - 1 - b;
      std::set<std::int32_t> expected;
      std::copy_if(given, given + top_k, std::inserter(expected, expected.end()),
                   [&](std::int32_t block) { return block >= config.sink && block < own; });
      CHECK(made.unit(b, head) == std::vector<std::int32_t>(expected.begin(), expected.end()));
      const bool has_own = std::find(given, given + top_k, own) != given + top_k;
      CHECK(made.w0(b, head) == (has_own ? own : own + 1));
    }
  }
}

TEST_CASE("make_index_selection refuses bad arguments by name") {
  struct Lists {
    HipConfig config = index_config(4);
    Operator op = Operator::kPrefill;
    std::vector<std::int32_t> indices{0, -1, 1, 0};
    std::vector<std::int32_t> seq_lens{6};
    std::vector<std::int32_t> cu_seqlens{0, 2};
  };
  std::vector<std::int32_t> blocks(64), counts(16), window_start(16);
  const auto check = [&](StatusCode code, const Mentions& mentions,
                         const std::function<void(Lists&)>& spoil,
                         const std::function<void(IndexSelectionArgs&)>& spoil_args = {}) {
    Lists lists;
    spoil(lists);
    AttentionPlan plan = make_plan<AnyElement>(
        lists.op, lists.config,
        {.batch = 1, .total_q = 2, .max_seq_len = 10, .head_dim = least_head_dim()});
    IndexSelectionArgs args;
    args.indices = {lists.indices.data(), {2, 1, 2}};
    args.seq_lens = {lists.seq_lens.data(), {1}};
    args.cu_seqlens_q = {lists.cu_seqlens.data(), {2}};
    args.selection = {
        {blocks.data(), {4, 1, 2}}, {counts.data(), {4, 1}}, {window_start.data(), {4, 1}}};
    if (spoil_args) spoil_args(args);
    const Status status = make_index_selection(plan, args);
    check_refused(status, code, mentions);
    check_same_status(status, make_index_selection_through_c(plan, args));
    // What the host sees of arguments is the same for a GPU.
    if (spoil_args) {
      check_same_status(status, make_index_selection(plan_on(cuda_device(), plan), args));
    } else if (!has_cuda_device()) {
      check_refused(make_index_selection(plan_on(cuda_device(), plan), args),
                    StatusCode::kUnsupported, {lists.config.block_q == 2 ? "block_q" : "CUDA"});
    }
  };
  const auto nothing = [](Lists&) {};
  check(StatusCode::kUnsupported, {"config.block_q is 2"}, [](Lists& l) { l.config.block_q = 2; });
  check(StatusCode::kInvalidSelection, {"indices[1][0][1] is 2", "blocks 0 to 1"},
        [](Lists& l) { l.indices[3] = 2; });
  check(StatusCode::kInvalidLength, {"request 0 has rows 1 to 2"},
        [](Lists& l) { l.cu_seqlens[0] = 1; });
  check(StatusCode::kInvalidLength, {"seq_lens[0]", "-1"}, [](Lists& l) { l.seq_lens[0] = -1; });
  check(StatusCode::kQueryLongerThanSequence, {"request 0 has 2 rows"},
        [](Lists& l) { l.seq_lens[0] = 1; });
  check(StatusCode::kTooManyDecodeRows, {"request 0 has 2 rows"},
        [](Lists& l) { l.op = Operator::kDecode; });
  check(StatusCode::kNullPointer, {"indices.data"}, nothing,
        [](IndexSelectionArgs& a) { a.indices.data = nullptr; });
  check(StatusCode::kInvalidShape, {"indices.sizes[1]", "3"}, nothing,
        [](IndexSelectionArgs& a) { a.indices.sizes[1] = 3; });
  check(StatusCode::kInvalidShape, {"cu_seqlens_q.sizes[0]"}, nothing,
        [](IndexSelectionArgs& a) { a.cu_seqlens_q.sizes[0] = 1; });
  check(StatusCode::kInvalidShape, {"selection.blocks.sizes[0]", "3"}, nothing,
        [](IndexSelectionArgs& a) { a.selection.blocks.sizes[0] = 3; });
  check(StatusCode::kInvalidShape, {"selection.blocks.sizes[2]", "1"}, nothing,
        [](IndexSelectionArgs& a) { a.selection.blocks.sizes[2] = 1; });
  check(StatusCode::kInvalidShape, {"indices.sizes[2] is 2147483648", "2^31 - 1"}, nothing,
        [](IndexSelectionArgs& a) { a.indices.sizes[2] = std::int64_t{1} << 31; });
  check(StatusCode::kInvalidStride, {"indices.strides[2]"}, nothing,
        [](IndexSelectionArgs& a) { a.indices.strides[2] = 2; });
  check(StatusCode::kOverlap, {"selection.blocks", "shares memory with indices"}, nothing,
        [&](IndexSelectionArgs& a) { a.indices.data = blocks.data(); });
  check(StatusCode::kOverlap, {"selection.counts", "selection.window_start"}, nothing,
        [&](IndexSelectionArgs& a) { a.selection.window_start.data = counts.data(); });
}

#if HIP_ATTN_HAS_CUDA
using T = bfloat16;

#define REQUIRE_CUDA_AND_TYPE()                                                      \
  if (const Status device_status = check_device(cuda_device()); !device_status.ok()) \
    HIP_ATTN_SKIP(device_status.message());                                          \
  if (!is_built<T>()) HIP_ATTN_SKIP("this build lacks the element type")

TEST_CASE("On CUDA an index that its row does not see makes NaN of that row and KV head alone",
          "[cuda][index]") {
  REQUIRE_CUDA_AND_TYPE();
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = index_config(4);
  const Heads heads{4, 2, least_head_dim()};
  const std::int64_t rows = op == Operator::kDecode ? 1 : 20;
  const auto problem = make_problem<T>(heads, {{300, rows, 1}, {131, rows, 2}, {90, rows, 3}});
  const AttentionPlan plan = make_plan<T>(op, config, problem.shape(cuda_device()));
  Indices indices = random_indices(problem, 4, 2, kTopK);
  const HostSelection good = IndexCall(plan, problem, indices).made();

  const std::int64_t bad_row = rows;  // the first of request 1
  const std::int64_t own = (131 - rows) / 4;
  const std::int32_t bad =
      GENERATE_COPY(static_cast<std::int32_t>(own + 1), std::numeric_limits<std::int32_t>::max());
  indices.values[(bad_row * 2 + 1) * kTopK + 3] = bad;
  const HostSelection made = IndexCall(plan, problem, indices).made();
  const std::int64_t selection_at = op == Operator::kDecode ? 1 : selection_row(rows, 1, 0, 1);
  HostSelection expected = good;
  expected.counts[selection_at * 2 + 1] = -1;
  CHECK(made.counts == expected.counts);

  AttentionShape shape = problem.shape(cuda_device());
  shape.max_seq_len = 4096;
  const auto run = [&](const HostSelection& selection) {
    return run_attention<T>(op, config, problem,
                            {.device = cuda_device(), .selection = &selection, .planned = shape});
  };
  const auto whole = run(good);
  const auto spoilt = run(made);
  for (std::size_t i = 0; i < whole.out.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i) / heads.head_dim;
    const bool is_bad = at / heads.num_q_heads == bad_row && at % heads.num_q_heads >= 2;
    CAPTURE(at);
    const float value = to_float(spoilt.out[i]);
    REQUIRE((is_bad ? value != value : value == to_float(whole.out[i])));
  }
}

TEST_CASE("On CUDA a request of decode with several rows gets a selection that does not hold",
          "[cuda][index]") {
  REQUIRE_CUDA_AND_TYPE();
  const auto problem = make_problem<T>({2, 2, least_head_dim()}, {{300, 1, 1}, {131, 2, 2}});
  const AttentionPlan plan =
      make_plan<T>(Operator::kDecode, index_config(4), problem.shape(cuda_device()));
  const Indices indices = random_indices(problem, 4, 1, kTopK);
  const HostSelection made = IndexCall(plan, problem, indices).made();
  CHECK(made.counts[0] >= 0);
  CHECK(std::vector<std::int32_t>(made.counts.begin() + 2, made.counts.end()) ==
        std::vector<std::int32_t>{-1, -1});
}

TEST_CASE("On CUDA rows of requests whose lengths do not hold get no selection", "[cuda][index]") {
  REQUIRE_CUDA_AND_TYPE();
  const auto problem =
      make_problem<T>({2, 2, least_head_dim()}, {{300, 3, 1}, {131, 3, 2}, {90, 3, 3}});
  const AttentionPlan plan =
      make_plan<T>(Operator::kPrefill, index_config(4), problem.shape(cuda_device()));
  const Indices indices = random_indices(problem, 4, 1, kTopK);
  IndexCall call(plan, problem, indices);
  call.write(indices.values, {300, GENERATE(-1, 0, 2), 90});
  HostSelection expected = IndexCall(plan, problem, indices).made();
  for (std::int64_t row = 0; row < 3; ++row) {
    for (std::int64_t head = 0; head < 2; ++head) {
      const std::int64_t unit = selection_row(3, 1, row, 1) * 2 + head;
      expected.counts[unit] = expected.window_start[unit] = kUntouched;
    }
  }
  check_same(call.made(), expected);
}

TEST_CASE("One captured graph makes the selections of every step", "[cuda][index]") {
  REQUIRE_CUDA_AND_TYPE();
  const HipConfig config = index_config(4);
  const auto step_problem = [](std::int64_t step) {
    return make_problem<T>({4, 2, least_head_dim()}, {{300 + step, 1, 1}, {40 + 9 * step, 1, 2}});
  };
  const auto shape = step_problem(20).shape(cuda_device());
  const AttentionPlan plan = make_plan<T>(Operator::kDecode, config, shape);
  const auto first = step_problem(0);
  IndexCall call(plan, first, random_indices(first, 4, 2, kTopK));

  cudaStream_t stream;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  const Status captured = make_index_selection(plan, call.args, stream);
  cudaGraph_t graph;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  INFO(captured.message());
  REQUIRE(captured.ok());
  cudaGraphExec_t exec;
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  for (std::int64_t step = 0; step < 8; ++step) {
    INFO("step " << step);
    const auto problem = step_problem(step);
    const Indices indices = random_indices(problem, 4, 2, kTopK);
    call.write(indices.values,
               {static_cast<std::int32_t>(300 + step), static_cast<std::int32_t>(40 + 9 * step)});
    REQUIRE(cudaGraphLaunch(exec, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    check_same(call.read(), IndexCall(plan_on(kCpu, plan), problem, indices).made());
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}
#endif

}  // namespace
}  // namespace hip_attn
