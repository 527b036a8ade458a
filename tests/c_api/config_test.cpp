// Configurations, plans and build information through the C interface.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/c/hip_attn.h"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

Status from_preset(const char* name, const HipAttnPresetArgs* args, HipConfig& config) {
  HipAttnConfig* made = nullptr;
  const Status status = status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_config_from_preset(name, args, &made, message, capacity);
  });
  if (made != nullptr) config = made->config;
  hip_attn_config_destroy(made);
  return status;
}

TEST_CASE("C: presets are those of C++ by their names") {
  HipAttnPresetArgs args{};
  args.struct_size = sizeof(args);
  args.max_len = 131072;
  args.k = 2048;
  args.block_k = 32;
  args.window = 500;
  args.sink = 4;
  const std::pair<const char*, HipConfig> expected[] = {
      {"infinite_hip", presets::infinite_hip()},
      {"infinite_hip_fast", presets::infinite_hip_fast()},
      {"infinite_hip_softmax_sum", presets::infinite_hip_softmax_sum()},
      {"infinite_hip_5k", presets::infinite_hip_5k()},
      {"landmark", presets::landmark(131072)},
      {"landmark_1k", presets::landmark_1k(131072)},
      {"hip_classic", presets::hip_classic(131072, 2048, 32)},
      {"sliding_window", presets::sliding_window(500, 4)},
      {"dense", presets::dense()},
  };
  for (const auto& [name, preset] : expected) {
    CAPTURE(name);
    HipConfig config;
    CHECK(from_preset(name, &args, config).ok());
    CHECK(config == preset);
  }
  HipConfig config;
  CHECK(from_preset("infinite_hip", nullptr, config).ok());
  check_refused(from_preset("infinite", nullptr, config), StatusCode::kInvalidArgument,
                {"name is \"infinite\"", "infinite_hip_5k landmark", "sliding_window dense"});
  check_refused(from_preset("landmark", nullptr, config), StatusCode::kInvalidConfig,
                {"args.max_len is 0", "landmark"});
  check_refused(from_preset("sliding_window", nullptr, config), StatusCode::kInvalidConfig,
                {"config.window is 0"});
  args.block_k = std::int64_t{1} << 40;
  check_refused(from_preset("hip_classic", &args, config), StatusCode::kInvalidConfig, {"config."});
}

// Reads a config by values and makes another of them.
HipConfig copied(const HipConfig& config) {
  const HipAttnConfig handle{config, {}};
  HipAttnConfigValues values{};
  values.struct_size = sizeof(values);
  REQUIRE(hip_attn_config_values(&handle, &values, nullptr, 0) == HIP_ATTN_OK);
  CHECK(values.stages == nullptr);
  std::vector<HipAttnStage> stages(static_cast<std::size_t>(values.num_stages));
  for (std::int32_t i = 0; i < values.num_stages; ++i) {
    stages[static_cast<std::size_t>(i)].struct_size = sizeof(HipAttnStage);
    REQUIRE(hip_attn_config_stage(&handle, i, &stages[static_cast<std::size_t>(i)], nullptr, 0) ==
            HIP_ATTN_OK);
  }
  values.stages = stages.data();
  HipAttnConfig* made = nullptr;
  REQUIRE(hip_attn_config_create(&values, &made, nullptr, 0) == HIP_ATTN_OK);
  const HipConfig copy = made->config;
  hip_attn_config_destroy(made);
  return copy;
}

TEST_CASE("C: a config made of the values of another is the same") {
  for (const HipConfig& config :
       {presets::infinite_hip(), presets::landmark(1 << 20), presets::sliding_window(100),
        presets::dense(), presets::hip_classic(1 << 17, 1024, 32), landmark_config()}) {
    CHECK(copied(config) == config);
  }
}

TEST_CASE("C: values that break a rule are refused as in C++") {
  HipAttnStage stage{sizeof(HipAttnStage), 64, 12, 0, 0, 0, 0};
  HipAttnConfigValues values{};
  values.struct_size = sizeof(values);
  values.num_stages = 1;
  values.stages = &stage;
  HipAttnConfig* config = nullptr;
  const auto create = [&] {
    return status_of_c([&](char* message, std::size_t capacity) {
      return hip_attn_config_create(&values, &config, message, capacity);
    });
  };
  const auto invalid = StatusCode::kInvalidConfig;
  check_refused(create(), invalid, {"config.stages[0].chunk_size is 12", "power of two"});
  stage.chunk_size = 16;
  stage.rule = 4;
  check_refused(create(), invalid, {"config.stages[0].rule is 4"});
  stage.rule = -1;
  check_refused(create(), invalid, {"config.stages[0].rule is -1"});
  stage.rule = HIP_ATTN_RULE_CENTRE;
  stage.reduction = 2;
  check_refused(create(), invalid, {"config.stages[0].reduction is 2"});
  stage.reduction = HIP_ATTN_REDUCTION_SOFTMAX_SUM;
  stage.refresh_interval = -(std::int64_t{1} << 40);
  check_refused(create(), invalid, {"config.refresh_interval[0]"});
  stage.refresh_interval = 3;
  values.sink = 8;
  check_refused(create(), invalid, {"config.sink is 8", "multiple"});
  values.sink = 0;
  values.num_stages = 33;
  check_refused(create(), invalid, {"values.num_stages is 33", "0 to 32"});
  values.num_stages = -1;
  check_refused(create(), invalid, {"values.num_stages is -1"});
  CHECK(config == nullptr);
}

TEST_CASE("C: what follows from a config is what C++ says") {
  const HipConfig config = presets::landmark(1 << 20);
  HipAttnPresetArgs args{};
  args.struct_size = sizeof(args);
  args.max_len = 1 << 20;
  HipAttnConfig* handle = nullptr;
  REQUIRE(hip_attn_config_from_preset("landmark", &args, &handle, nullptr, 0) == HIP_ATTN_OK);
  for (const std::int64_t step : {0, 1, 8, 16, 24}) {
    CHECK(hip_attn_config_refresh_from_at(handle, step) == refresh_from_at(config, step));
    CHECK(hip_attn_config_refresh_ahead_at(handle, step) == refresh_ahead_at(config, step));
  }
  CHECK(hip_attn_config_window_start(handle, 100000) == window_start(config, 100000));
  std::array<std::int64_t, 3> sizes{-1, -1, -1};
  CHECK(hip_attn_config_landmark_chunk_sizes(handle, sizes.data(), 1) == 2);
  CHECK(sizes == std::array<std::int64_t, 3>{64, -1, -1});
  CHECK(hip_attn_config_landmark_chunk_sizes(handle, sizes.data(), 3) == 2);
  CHECK(sizes == std::array<std::int64_t, 3>{64, 256, -1});
  hip_attn_config_destroy(handle);
  CHECK(hip_attn_selection_row(130, 2, 1, 64) == selection_row(130, 2, 1, 64));
  CHECK(hip_attn_selection_row(130, 2, 1, 0) == 0);
}

TEST_CASE("C: a model's JSON gives the configs, layers and notes of C++") {
  const std::string json =
      R"({"using_extend": false, "dense_layers": [2, 0], "prefill_dense_threshold": 512,
          "layers": [{"sink_token_size": 0, "sliding_window_size": 1024, "second_stage_k": 2048,
            "stages": [{"stage_block_size_q": 64, "stage_block_stride_q": 4,
                        "stage_chunk_size": 32, "stage_k": null}]}]})";
  ModelConfig expected;
  std::vector<std::string> notes;
  const Status cpp_status = parse_model_config(json, expected, &notes);
  HipAttnModelConfig* model = nullptr;
  const Status status = status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_model_config_parse(json.data(), json.size(), &model, message, capacity);
  });
  check_same_status(cpp_status, status);
  INFO(status.message());
  REQUIRE(status.ok());
  for (const std::int32_t layer : {0, 1, 2, 99}) {
    HipAttnConfig* decode = nullptr;
    HipAttnConfig* prefill = nullptr;
    REQUIRE(hip_attn_model_config_decode(model, layer, &decode, nullptr, 0) == HIP_ATTN_OK);
    REQUIRE(hip_attn_model_config_prefill(model, layer, &prefill, nullptr, 0) == HIP_ATTN_OK);
    CHECK(decode->config == expected.decode(layer));
    CHECK(prefill->config == expected.prefill(layer));
    hip_attn_config_destroy(decode);
    hip_attn_config_destroy(prefill);
  }
  HipAttnConfig* none = nullptr;
  CHECK(hip_attn_model_config_decode(model, -1, &none, nullptr, 0) == HIP_ATTN_INVALID_ARGUMENT);
  CHECK(hip_attn_model_config_prefill_dense_until(model) == expected.prefill_dense_until);
  std::array<std::int32_t, 4> layers{};
  CHECK(hip_attn_model_config_dense_layers(model, layers.data(), 4) == 2);
  CHECK(layers == std::array<std::int32_t, 4>{0, 2, 0, 0});
  REQUIRE(hip_attn_model_config_num_notes(model) == notes.size());
  for (std::size_t i = 0; i < notes.size(); ++i) {
    CHECK(hip_attn_model_config_note(model, i) == notes[i]);
  }
  CHECK(hip_attn_model_config_note(model, notes.size()) == nullptr);
  hip_attn_model_config_destroy(model);

  for (const char* bad : {"", "{", R"({"using_extend": true})", R"({"unknown": 1})"}) {
    CAPTURE(bad);
    model = nullptr;
    check_same_status(parse_model_config(bad, expected),
                      status_of_c([&](char* message, std::size_t capacity) {
                        return hip_attn_model_config_parse(bad, std::string(bad).size(), &model,
                                                           message, capacity);
                      }));
    CHECK(model == nullptr);
  }
}

TEST_CASE("C: plans say what those of C++ say, and take what may be set") {
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  Call call(op);
  call.plan.num_threads = 3;
  HipAttnPlan plan{call.plan};
  REQUIRE(hip_attn_plan_set_dense_until(&plan, 77, nullptr, 0) == HIP_ATTN_OK);
  REQUIRE(hip_attn_plan_set_num_threads(&plan, 2, nullptr, 0) == HIP_ATTN_OK);
  CHECK(hip_attn_plan_set_num_threads(&plan, 3, nullptr, 0) == HIP_ATTN_INVALID_ARGUMENT);
  HipAttnPlanInfo info{};
  info.struct_size = sizeof(info);
  REQUIRE(hip_attn_plan_info(&plan, &info, nullptr, 0) == HIP_ATTN_OK);
  CHECK(info.workspace_bytes == call.plan.workspace_bytes);
  CHECK(info.selection_cache_slot_bytes == call.plan.selection_cache_slot_bytes);
  CHECK(info.selection_rows == call.plan.selection_rows);
  CHECK(info.max_selected_blocks == call.plan.max_selected_blocks);
  CHECK(info.dense_until == 77);
  CHECK(info.num_threads == 2);
}

TEST_CASE("C: plans refuse dtypes that are none, or that do not meet") {
  const HipAttnConfig config{small_config(), {}};
  HipAttnShape shape{sizeof(HipAttnShape),
                     {kDLCPU, 0},
                     {kDLFloat, 16, 1},
                     {0, 0, 0},
                     1,
                     1,
                     100,
                     4,
                     2,
                     least_head_dim(),
                     0,
                     0};
  HipAttnPlan* plan = nullptr;
  const auto make = [&] {
    return status_of_c([&](char* message, std::size_t capacity) {
      return hip_attn_plan_decode(&config, &shape, &plan, message, capacity);
    });
  };
  shape.cache_dtype = {kDLFloat, 32, 1};
  check_refused(make(), StatusCode::kUnsupported, {"shape.dtype is float16 over a cache of float"});
  shape.cache_dtype = {kDLInt, 8, 1};
  check_refused(make(), StatusCode::kInvalidArgument, {"shape.cache_dtype is int8", "bfloat16"});
  shape.dtype = {};
  check_refused(make(), StatusCode::kInvalidArgument, {"shape.dtype is int0"});
  shape.dtype = {kDLFloat, 32, 1};
  shape.cache_dtype = {};
  shape.device = {kDLROCM, 0};
  check_refused(make(), StatusCode::kUnsupported, {"shape.device is DLDeviceType 10", "kDLCUDA"});
  CHECK(plan == nullptr);
}

TEST_CASE("C: build information and names of codes are those of C++") {
  CHECK(hip_attn_version() == std::string(version()));
  CHECK(hip_attn_cpu_instruction_set() == std::string(cpu_instruction_set()));
  CHECK(hip_attn_built_with_cuda() == (built_with_cuda() ? 1 : 0));
  std::array<std::int64_t, 16> dims{};
  const std::size_t count = hip_attn_built_head_dims(dims.data(), dims.size());
  CHECK(std::vector<std::int64_t>(dims.begin(), dims.begin() + count) == head_dims());
  std::array<DLDataType, 4> dtypes{};
  REQUIRE(hip_attn_built_dtypes(dtypes.data(), dtypes.size()) == built_element_types().size());
  ElementType type{};
  for (std::size_t i = 0; i < built_element_types().size(); ++i) {
    REQUIRE(c_api::element_type_of("dtype", dtypes[i], type).ok());
    CHECK(type == built_element_types()[i]);
  }
  for (int code = 0; code <= HIP_ATTN_INTERNAL_ERROR + 1; ++code) {
    CHECK(hip_attn_status_name(static_cast<HipAttnStatus>(code)) ==
          std::string(to_string(static_cast<StatusCode>(code))));
  }
}

}  // namespace
}  // namespace hip_attn
