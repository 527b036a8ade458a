// Structs of the C interface grow: older and newer ones are taken, and what is no size is refused.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/c/hip_attn.h"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

Status run(const HipAttnPlan& plan, const void* args, Workspace workspace) {
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_decode(&plan, static_cast<const HipAttnAttentionArgs*>(args), workspace.data(),
                           workspace.size(), nullptr, message, capacity);
  });
}

TEST_CASE("C: members that an older struct lacks are absent") {
  Call call(Operator::kDecode);
  CArguments arguments(kCpu);
  HipAttnAttentionArgs args = arguments.attention(call.plan, call.args);
  const HipAttnPlan plan{call.plan};
  // One that ends before `selection_out`: what lies there is not looked at.
  args.struct_size = offsetof(HipAttnAttentionArgs, selection_out);
  std::memset(&args.selection_out, 0x5a, sizeof(args) - args.struct_size);
  REQUIRE(run(plan, &args, call.workspace).ok());
  const auto result = call.memory.read();
  CHECK(std::ranges::all_of(result.counters, [](std::int64_t counter) { return counter == 0; }));
  CHECK_FALSE(result.selection.written(0, 0));

  args.struct_size = sizeof(std::size_t);
  check_refused(run(plan, &args, call.workspace), StatusCode::kNullPointer, {"q is null"});
}

TEST_CASE("C: a newer struct is taken where what it adds is zero") {
  Call call(Operator::kDecode);
  CArguments arguments(kCpu);
  const HipAttnPlan plan{call.plan};
  struct Newer {
    HipAttnAttentionArgs args;
    std::int64_t added[3];
  } newer{arguments.attention(call.plan, call.args), {0, 0, 0}};
  newer.args.struct_size = sizeof(newer);
  CHECK(run(plan, &newer, call.workspace).ok());
  newer.added[2] = 1;
  check_refused(run(plan, &newer, call.workspace), StatusCode::kInvalidArgument,
                {"args.struct_size is " + std::to_string(sizeof(newer)),
                 "knows " + std::to_string(sizeof(HipAttnAttentionArgs)), "must be zero"});
}

TEST_CASE("C: what is no size of a struct is refused by name") {
  Call call(Operator::kDecode);
  CArguments arguments(kCpu);
  HipAttnAttentionArgs args = arguments.attention(call.plan, call.args);
  const HipAttnPlan plan{call.plan};
  for (const std::size_t size : {std::size_t{0}, std::size_t{4}, sizeof(args) - 3,
                                 std::size_t{4104}, static_cast<std::size_t>(-8)}) {
    args.struct_size = size;
    check_refused(run(plan, &args, call.workspace), StatusCode::kInvalidArgument,
                  {"args.struct_size is " + std::to_string(size),
                   "it must be sizeof of the struct (" + std::to_string(sizeof(args)) + ")"});
  }
}

TEST_CASE("C: arrays of structs have the step that their first one states") {
  struct NewerStage {
    HipAttnStage stage;
    std::int64_t added;
  };
  std::array<NewerStage, 2> stages{};
  stages[0].stage = {sizeof(NewerStage), 64, 16, 0, HIP_ATTN_RULE_DESCENT, 0, 4};
  stages[1].stage = {sizeof(NewerStage), 32, 4, 1, HIP_ATTN_RULE_DESCENT, 0, 2};
  HipAttnConfigValues values{};
  values.struct_size = sizeof(values);
  values.window = 24;
  values.num_stages = 2;
  values.stages = &stages[0].stage;
  HipAttnConfig* config = nullptr;
  const auto create = [&] {
    return status_of_c([&](char* message, std::size_t capacity) {
      return hip_attn_config_create(&values, &config, message, capacity);
    });
  };
  REQUIRE(create().ok());
  CHECK(config->config.stage(1).chunk_size == 4);
  CHECK(config->config.refresh_interval == std::vector<std::int32_t>{4, 2});
  hip_attn_config_destroy(config);
  stages[1].added = 5;
  check_refused(create(), StatusCode::kInvalidArgument, {"values.stages[1].struct_size"});
  stages[1].stage.struct_size = sizeof(HipAttnStage);
  check_refused(create(), StatusCode::kInvalidArgument,
                {"values.stages[1].struct_size is 40", "first struct (48)"});
  values.stages = nullptr;
  check_refused(create(), StatusCode::kNullPointer, {"values.stages[0] is null"});
}

TEST_CASE("C: as much is written as the caller's struct has") {
  const HipAttnPlan plan{Call(Operator::kDecode).plan};
  struct Larger {
    HipAttnPlanInfo info;
    std::int64_t added;
  } larger{};
  std::memset(&larger, 0x5a, sizeof(larger));
  larger.info.struct_size = offsetof(HipAttnPlanInfo, selection_rows);
  REQUIRE(hip_attn_plan_info(&plan, &larger.info, nullptr, 0) == HIP_ATTN_OK);
  CHECK(larger.info.workspace_bytes == plan.plan.workspace_bytes);
  CHECK(larger.info.struct_size == offsetof(HipAttnPlanInfo, selection_rows));
  CHECK(larger.info.selection_rows == 0x5a5a5a5a5a5a5a5a);

  larger.info.struct_size = sizeof(larger);
  REQUIRE(hip_attn_plan_info(&plan, &larger.info, nullptr, 0) == HIP_ATTN_OK);
  CHECK(larger.info.struct_size == sizeof(larger));
  CHECK(larger.info.num_threads == plan.plan.num_threads);
  CHECK(larger.added == 0);
}

}  // namespace
}  // namespace hip_attn
