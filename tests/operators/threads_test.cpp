// How many threads run a call, and which, changes nothing but time.
#include "hip_attn/threads.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

// Few units of many pieces, and more units than threads.
template <TestedTypes P>
Problem<P> long_and_short(Operator op) {
  const std::int64_t q_len = op == Operator::kDecode ? 2 : 70;
  return make_problem<P>({4, 2, least_head_dim()},
                         {{3000, q_len, 1}, {0, 1, 2}, {q_len, q_len, 3}, {1111, q_len, 4}});
}

template <TestedTypes P>
void require_same(const RunResult<P>& a, const RunResult<P>& b) {
  REQUIRE(same_bits(a.out, b.out));
  REQUIRE(same_bits(a.lse, b.lse));
  REQUIRE(a.selection.blocks == b.selection.blocks);
  REQUIRE(a.selection.counts == b.selection.counts);
  REQUIRE(a.selection.window_start == b.selection.window_start);
  REQUIRE(a.counters == b.counters);
}

template <Element T, StoredFor<T> C>
Status run_part(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace,
                ThreadTeam& team, int part) {
  return plan.op == Operator::kPrefill ? run_prefill(plan, args, workspace, team, part)
                                       : run_decode(plan, args, workspace, team, part);
}

// A plan with room for so many threads.
template <TestedTypes P>
AttentionPlan plan_for(Operator op, const HipConfig& config, const Problem<P>& problem,
                       int num_threads) {
  AttentionShape shape = problem.shape(kCpu);
  shape.num_threads = num_threads;
  return make_plan<P>(op, config, shape);
}

// The Status of every thread.
template <typename Run>
std::vector<Status> run_on_threads(int count, Run&& run) {
  std::vector<Status> statuses(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&, i] { statuses[i] = run(i); });
  for (std::thread& thread : threads) thread.join();
  return statuses;
}

HIP_ATTN_OPERATOR_TEST_CASE("any number of threads gives the same bits") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), presets::dense(), window_only_config());
  const auto problem = long_and_short<TestType>(op);
  const auto expected = [&] {
    const AttentionPlan plan = plan_for(op, config, problem, 1);
    CallMemory<TestType> memory(plan, problem, {});
    REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
    return memory.read();
  }();
  for (const int threads : {2, 3, 7}) {
    CAPTURE(op, threads);
    const AttentionPlan plan = plan_for(op, config, problem, threads);
    CallMemory<TestType> memory(plan, problem, {});
    REQUIRE(run_operator<TestType>(plan, memory.args(), memory.workspace()).ok());
    REQUIRE(memory.untouched_around_outputs());
    require_same(memory.read(), expected);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("a team of the caller's threads gives the bits of one call") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const HipConfig config = GENERATE(small_config(), presets::dense());
  const auto problem = long_and_short<TestType>(op);
  const auto expected = run_attention(op, config, problem);
  for (const int size : {1, 2, 5}) {
    CAPTURE(op, size);
    const AttentionPlan plan = plan_for(op, config, problem, 5);
    ThreadTeam team(size);
    for (int call = 0; call < 10; ++call) {
      CallMemory<TestType> memory(plan, problem, {});
      const auto statuses = run_on_threads(size, [&](int part) {
        return run_part(plan, memory.args(), memory.workspace(), team, part);
      });
      for (const Status& status : statuses) REQUIRE(status.ok());
      REQUIRE(memory.untouched_around_outputs());
      require_same(memory.read(), expected);
    }
  }
}

TEST_CASE("threads of a team go from one call to the next without meeting") {
  const auto problem = long_and_short<AnyElement>(Operator::kDecode);
  const auto expected = run_attention(Operator::kDecode, small_config(), problem);
  constexpr int kThreads = 3;
  constexpr int kCalls = 40;
  const AttentionPlan plan = plan_for(Operator::kDecode, small_config(), problem, kThreads);
  // Workspaces of their own: a call has its workspace until all of its threads have returned.
  std::vector<std::unique_ptr<CallMemory<AnyElement>>> calls;
  for (int i = 0; i < kCalls; ++i) {
    calls.push_back(std::make_unique<CallMemory<AnyElement>>(plan, problem, MemoryLayout{}));
  }
  ThreadTeam team(kThreads);
  const auto statuses = run_on_threads(kThreads, [&](int part) {
    for (const auto& call : calls) {
      if (Status status = run_part(plan, call->args(), call->workspace(), team, part);
          !status.ok()) {
        return status;
      }
    }
    return Status{};
  });
  for (const Status& status : statuses) REQUIRE(status.ok());
  for (const auto& call : calls) require_same(call->read(), expected);
}

TEST_CASE("the parts of a call may follow one another on one thread") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto problem = long_and_short<AnyElement>(op);
  const auto expected = run_attention(op, small_config(), problem);
  const AttentionPlan plan = plan_for(op, small_config(), problem, 4);
  CallMemory<AnyElement> memory(plan, problem, {});
  ThreadTeam team(4);
  for (const int part : {2, 0, 3, 1}) {
    REQUIRE(run_part(plan, memory.args(), memory.workspace(), team, part).ok());
  }
  require_same(memory.read(), expected);
  CallMemory<AnyElement> again(plan, problem, {});
  for (const int part : {0, 1, 2, 3}) {
    REQUIRE(run_part(plan, again.args(), again.workspace(), team, part).ok());
  }
  require_same(again.read(), expected);
}

TEST_CASE("all parts get the call's error, and the team goes on") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  Call call(op);
  call.plan = plan_for(op, small_config(), call.problem, 3);
  std::vector<std::byte> workspace(call.plan.workspace_bytes);
  ThreadTeam team(3);
  const auto run = [&] {
    return run_on_threads(3, [&](int part) {
      return run_part(call.plan, call.args, Workspace(workspace), team, part);
    });
  };
  const auto good_lengths = call.args.seq_lens;
  call.args.seq_lens = call.array({60, -1});
  for (const Status& status : run()) {
    check_refused(status, StatusCode::kInvalidLength, {"seq_lens[1]", "-1"});
  }
  call.args.seq_lens = good_lengths;
  const auto good_table = call.args.kv.block_table;
  const std::int64_t columns = good_table->sizes[1];
  std::vector<std::int32_t> table(2 * columns);
  for (std::int64_t i = 0; i < 2 * columns; ++i) table[i] = (*good_table)(i / columns, i % columns);
  table[0] = 1 << 20;
  call.args.kv.block_table = call.table(table);
  for (const Status& status : run()) {
    check_refused(status, StatusCode::kInvalidPage, {"kv.block_table[0][0]", "1048576"});
  }
  call.args.kv.block_table = good_table;
  for (const Status& status : run()) CHECK(status.ok());
}

TEST_CASE("a team that the plan has no room for, or a part that it does not have, is refused") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  Call call(op);
  call.plan.num_threads = 1;
  for (const int size : {2, 0, -1}) {
    ThreadTeam team(size);
    check_refused(run_part(call.plan, call.args, call.workspace, team, 0),
                  StatusCode::kInvalidShape, {"team.size()", std::to_string(size), "1"});
  }
  ThreadTeam team(1);
  for (const int part : {-1, 1}) {
    check_refused(run_part(call.plan, call.args, call.workspace, team, part),
                  StatusCode::kInvalidShape, {"part", std::to_string(part), "0"});
  }
  CHECK(run_part(call.plan, call.args, call.workspace, team, 0).ok());
  call.plan.shape.device = cuda_device();
  check_refused(run_part(call.plan, call.args, call.workspace, team, 0), StatusCode::kUnsupported,
                {"team", "CPU"});
}

TEST_CASE("the shape asks for threads, and the workspace follows") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const auto problem = long_and_short<AnyElement>(op);
  const auto bytes = [&](int threads) {
    const AttentionPlan plan = plan_for(op, small_config(), problem, threads);
    CHECK(plan.num_threads == threads);
    return plan.workspace_bytes;
  };
  const std::size_t per_thread = bytes(2) - bytes(1);
  CHECK(per_thread > 0);
  CHECK(bytes(64) - bytes(1) == 63 * per_thread);

  AttentionPlan plan = plan_for(op, small_config(), problem, 8);
  CallMemory<AnyElement> memory(plan, problem, {});
  plan.num_threads = 9;  // raised
  check_refused(run_operator<AnyElement>(plan, memory.args(), memory.workspace()),
                StatusCode::kWorkspaceTooSmall, {"workspace"});

  AttentionShape shape = problem.shape(kCpu);
  for (const int threads : {-1, 4097}) {
    shape.num_threads = threads;
    check_refused(op == Operator::kPrefill ? plan_prefill<AnyElement>(small_config(), shape, plan)
                                           : plan_decode<AnyElement>(small_config(), shape, plan),
                  StatusCode::kInvalidShape, {"num_threads", std::to_string(threads), "4096"});
  }
}

#if defined(_OPENMP)
TEST_CASE("inside a parallel region of OpenMP a plan says that one thread will run") {
  const auto problem = long_and_short<AnyElement>(Operator::kDecode);
  const auto expected = run_attention(Operator::kDecode, small_config(), problem);
  AttentionPlan inside;
  bool same = false;
#pragma omp parallel num_threads(2)
#pragma omp master
  {
    const Status status = plan_decode<AnyElement>(small_config(), problem.shape(kCpu), inside);
    if (status.ok()) {
      CallMemory<AnyElement> memory(inside, problem, {});
      same = run_decode<AnyElement>(inside, memory.args(), memory.workspace()).ok() &&
             same_bits(memory.read().out, expected.out);
    }
  }
  CHECK(inside.num_threads == 1);
  CHECK(same);
  AttentionPlan outside;
  REQUIRE(plan_decode<AnyElement>(small_config(), problem.shape(kCpu), outside).ok());
  CHECK(outside.num_threads == omp_get_max_threads());
}
#endif

}  // namespace
}  // namespace hip_attn
