// The C interface computes what C++ does, to the bit: every operator, type, cache and selection.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/c/hip_attn.h"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"
#include "support/through_c.hpp"

namespace hip_attn {
namespace {

using namespace test;

template <TestedTypes P>
Problem<P> three_requests() {
  return make_problem<P>({4, 2, least_head_dim()}, {{300, 3, 1}, {0, 0, 2}, {431, 8, 3}});
}

template <TestedTypes P>
AttentionPlan plan_by_c(Operator op, const HipConfig& config, const AttentionShape& shape) {
  AttentionPlan plan;
  const Status status = plan_through_c(op, kElementType<QueryType<P>>, kElementType<CacheType<P>>,
                                       config, shape, plan);
  INFO(status.message());
  REQUIRE(status.ok());
  plan.dense_until = 0;
  return plan;
}

template <TestedTypes P>
void check_same(const RunResult<P>& a, const RunResult<P>& b) {
  CHECK(same_bits(a.out, b.out));
  CHECK(same_bits(a.lse, b.lse));
  CHECK(a.selection.blocks == b.selection.blocks);
  CHECK(a.selection.counts == b.selection.counts);
  CHECK(a.selection.window_start == b.selection.window_start);
  CHECK(a.counters == b.counters);
}

// What a call gives through either interface, each in memory of its own. `set` adds arguments.
template <TestedTypes P, typename Set>
RunResult<P> check_same_call(Operator op, Device device, const HipConfig& config, const Set& set) {
  const Problem<P> problem = three_requests<P>();
  const AttentionShape shape = problem.shape(device);
  const AttentionPlan plan = make_plan<P>(op, config, shape);
  const AttentionPlan c_plan = plan_by_c<P>(op, config, shape);
  CHECK(c_plan.workspace_bytes == plan.workspace_bytes);
  CHECK(c_plan.selection_cache_slot_bytes == plan.selection_cache_slot_bytes);
  CallMemory<P> cpp(plan, problem, {});
  CallMemory<P> c(c_plan, problem, {});
  const auto cpp_all = cpp.args();
  const auto c_all = c.args();
  set(plan, cpp.args());
  set(c_plan, c.args());
  const Status cpp_status = run_operator<P>(plan, cpp.args(), cpp.workspace());
  const Status c_status = run_through_c(op, c_plan, c.args(), c.workspace());
  INFO(cpp_status.message() << " / " << c_status.message());
  REQUIRE((cpp_status.ok() && c_status.ok()));
  // What is absent was not written.
  cpp.args() = cpp_all;
  c.args() = c_all;
  CHECK(c.untouched_around_outputs());
  check_same<P>(cpp.read(), c.read());
  return cpp.read();
}

HIP_ATTN_OPERATOR_TEST_CASE("C: prefill and decode give the bits of C++, with landmarks or not") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  for (const Device device : attention_devices<TestType>()) {
    for (const HipConfig& config :
         {small_config(), landmark_config(), window_only_config(), presets::dense()}) {
      CAPTURE(config.num_stages());
      check_same_call<TestType>(op, device, config, [](const auto&, auto&) {});
      check_same_call<TestType>(op, device, config, [](const auto&, auto& args) {
        args.scale = 0.3f;
        args.logit_softcap = 5.f;
      });
      check_same_call<TestType>(op, device, config, [](const auto&, auto& args) {
        args.lse.reset();
        args.selection_out.reset();
        args.counters.reset();
      });
    }
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("C: a batch of queries of four dimensions gives the bits of C++") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  for (const Device device : attention_devices<TestType>()) {
    const Problem<TestType> problem = three_requests<TestType>();
    const AttentionPlan plan = make_plan<TestType>(op, small_config(), problem.shape(device));
    CallMemory<TestType> cpp(plan, problem, {.request_rows = 9});
    CallMemory<TestType> c(plan, problem, {.request_rows = 9});
    REQUIRE(run_operator<TestType>(plan, cpp.args(), cpp.workspace()).ok());
    REQUIRE(run_through_c(op, plan, c.args(), c.workspace()).ok());
    check_same<TestType>(cpp.read(), c.read());
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("C: a given selection gives the bits of C++") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  for (const Device device : attention_devices<TestType>()) {
    const HostSelection found =
        check_same_call<TestType>(op, device, small_config(), [](const auto&, auto&) {}).selection;
    const SelectionMemory given(device, found);
    const auto result =
        check_same_call<TestType>(op, device, small_config(),
                                  [&](const auto&, auto& args) { args.selection = given.view(); });
    CHECK(result.counters[0] == 0);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("C: steps that refresh and reuse a selection cache are those of C++") {
  for (const Device device : attention_devices<TestType>()) {
    const Problem<TestType> problem = three_requests<TestType>();
    const AttentionPlan plan =
        make_plan<TestType>(Operator::kDecode, small_config(), problem.shape(device));
    const auto bytes = static_cast<std::int64_t>(3 * plan.selection_cache_slot_bytes);
    const DeviceBuffer<std::byte> cpp_cache(device, bytes, std::byte{0});
    const DeviceBuffer<std::byte> c_cache(device, bytes, std::byte{0});
    const DeviceBuffer<std::int32_t> slots(device, std::vector<std::int32_t>{2, 0, 1});
    for (const std::int32_t stage : {0, 3, 1, 2}) {
      const DeviceBuffer<std::int32_t> refresh_from(device, 3, stage);
      SelectionCache cache{cpp_cache.data(),
                           3,
                           {refresh_from.data(), {3}},
                           TensorView<const std::int32_t, 1>(slots.data(), {3})};
      CallMemory<TestType> cpp(plan, problem, {});
      cpp.args().cache = cache;
      REQUIRE(run_operator<TestType>(plan, cpp.args(), cpp.workspace()).ok());
      CallMemory<TestType> c(plan, problem, {});
      cache.data = c_cache.data();
      c.args().cache = cache;
      REQUIRE(run_through_c(Operator::kDecode, plan, c.args(), c.workspace()).ok());
      check_same<TestType>(cpp.read(), c.read());
    }
    CHECK(same_bits(cpp_cache.read(), c_cache.read()));
    CHECK(c_cache.guards_intact());
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("C: a call in parts gives the bits of the call whole") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Problem<TestType> problem = three_requests<TestType>();
  AttentionShape shape = problem.shape(kCpu);
  shape.num_threads = 3;
  const HipAttnPlan plan{make_plan<TestType>(op, small_config(), shape)};
  CallMemory<TestType> whole(plan.plan, problem, {});
  REQUIRE(run_operator<TestType>(plan.plan, whole.args(), whole.workspace()).ok());

  CallMemory<TestType> parts(plan.plan, problem, {});
  CArguments arguments(kCpu);
  const HipAttnAttentionArgs args = arguments.attention(plan.plan, parts.args());
  HipAttnThreadTeam* team = nullptr;
  REQUIRE(hip_attn_thread_team_create(3, &team, nullptr, 0) == HIP_ATTN_OK);
  const auto run = op == Operator::kPrefill ? hip_attn_prefill_part : hip_attn_decode_part;
  for (const int part : {2, 0, 1}) {
    CHECK(run(&plan, &args, parts.workspace().data(), parts.workspace().size(), team, part, nullptr,
              0) == HIP_ATTN_OK);
  }
  check_same<TestType>(whole.read(), parts.read());
  std::array<char, 256> message{};
  CHECK(run(&plan, &args, parts.workspace().data(), parts.workspace().size(), team, 3,
            message.data(), message.size()) == HIP_ATTN_INVALID_SHAPE);
  CHECK(run(&plan, &args, parts.workspace().data(), parts.workspace().size(), nullptr, 0,
            message.data(), message.size()) == HIP_ATTN_NULL_POINTER);
  CHECK(std::string(message.data()) == "team is null; it must point at a thread team");
  hip_attn_thread_team_destroy(team);
}

HIP_ATTN_TYPED_TEST_CASE("C: append_kv and update_landmarks write the bits of C++") {
  using T = TestType;
  const std::int64_t head_dim = least_head_dim();
  const auto problem = make_problem<T>({2, 2, head_dim}, {{150, 0, 1}, {90, 0, 2}});
  const LandmarkLayout layout{.chunk_sizes = {8, 32}};
  for (const Device device : data_devices()) {
    // By C++, then by C.
    std::vector<std::vector<T>> cached;
    std::vector<typename LandmarkMemory<T>::Contents> appended;
    std::vector<typename LandmarkMemory<T>::Contents> updated;
    for (const bool through_c : {false, true}) {
      KvMemory<T> kv(device, problem, {});
      LandmarkMemory<T> landmarks(device, problem, layout);
      const DeviceBuffer<T> rows(device, 70 * 2 * head_dim, from_float<T>(0.75f));
      std::vector<std::int64_t> host_slots(70);
      for (std::int64_t t = 0; t < 70; ++t) {
        const std::int64_t b = t < 40 ? 0 : 1;
        const std::int64_t position = b == 0 ? 110 + t : 60 + t - 40;
        host_slots[t] = t % 7 == 0 ? -1 : kv.slot(b, position);
      }
      const DeviceBuffer<std::int64_t> slots(device, host_slots);
      const DeviceBuffer<std::int32_t> seq_lens(device, std::vector<std::int32_t>{150, 90});
      const DeviceBuffer<std::int32_t> cu_seqlens(device, std::vector<std::int32_t>{0, 40, 70});
      const DeviceBuffer<std::int32_t> from(device, std::vector<std::int32_t>{0, 16});
      const TensorView<const std::int32_t, 1> lengths(seq_lens.data(), {2});
      AppendKvArgs<T> append;
      append.k = append.v = {rows.data(), {70, 2, head_dim}};
      append.slot_mapping = {slots.data(), {70}};
      append.pages = kv.pages();
      append.landmarks = AppendLandmarks<T>{
          landmarks.view(), kv.view().block_table, lengths, {cu_seqlens.data(), {3}}};
      const Status append_status =
          through_c ? append_kv_through_c(device, append) : append_kv<T>(device, append);
      INFO(append_status.message());
      REQUIRE(append_status.ok());
      appended.push_back(landmarks.read());
      cached.push_back(kv.read());
      UpdateLandmarksArgs<T> update;
      update.kv = kv.view();
      update.from = {from.data(), {2}};
      update.to = lengths;
      update.landmarks = landmarks.view();
      update.max_tokens = 150;
      REQUIRE((through_c ? update_landmarks_through_c(device, update)
                         : update_landmarks<T>(device, update))
                  .ok());
      updated.push_back(landmarks.read());
      CHECK((kv.guards_intact() && landmarks.guards_intact()));
    }
    CHECK(same_bits(cached[0], cached[1]));
    for (std::size_t level = 0; level < 2; ++level) {
      CHECK(same_bits(appended[0][level], appended[1][level]));
      CHECK(same_bits(updated[0][level], updated[1][level]));
    }
  }
}

HIP_ATTN_TYPED_TEST_CASE("C: merge_states writes the bits of C++") {
  using T = TestType;
  const std::int64_t head_dim = least_head_dim();
  std::vector<T> host(2 * 3 * 2 * head_dim);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = from_float<T>(gaussian(mix(7, i)));
  for (const Device device : data_devices()) {
    const DeviceBuffer<T> partial(device, host);
    const DeviceBuffer<float> partial_lse(
        device, std::vector<float>{0.f, 1.f, -2.f, 3.f, 0.5f, -kInfinity, 1.f, 0.f, 2.f, -1.f, 0.f,
                                   -kInfinity});
    std::vector<std::vector<T>> outs;
    std::vector<std::vector<float>> lses;
    for (const bool through_c : {false, true}) {
      const DeviceBuffer<T> out(device, 3 * 2 * head_dim, from_float<T>(kNaN));
      const DeviceBuffer<float> lse(device, 6, kNaN);
      MergeStatesArgs<T> args;
      args.partial_out = {partial.data(), {2, 3, 2, head_dim}};
      args.partial_lse = {partial_lse.data(), {2, 3, 2}};
      args.out = {out.data(), {3, 2, head_dim}};
      args.lse = TensorView<float, 2>(lse.data(), {3, 2});
      REQUIRE(
          (through_c ? merge_states_through_c(device, args) : merge_states<T>(device, args)).ok());
      outs.push_back(out.read());
      lses.push_back(lse.read());
    }
    CHECK(same_bits(outs[0], outs[1]));
    CHECK(same_bits(lses[0], lses[1]));
  }
}

}  // namespace
}  // namespace hip_attn
