// Configurations of the C interface.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "c_api/handles.hpp"
#include "c_api/structs.hpp"
#include "hip_attn/landmarks.hpp"

namespace hip_attn::c_api {
namespace {

// 0 leaves the default of C++.
template <typename Given, typename Field>
void set_unless_zero(Given given, Field& field) {
  if (given != 0) field = given;
}

// What is no int32 becomes one that the rules refuse likewise.
std::int32_t to_int32(std::int64_t value) {
  using Limits = std::numeric_limits<std::int32_t>;
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(value, Limits::min(), Limits::max()));
}

Status config_of(const HipAttnConfigValues& values, HipConfig& config) {
  if (values.num_stages < 0 || values.num_stages > kMaxStages) {
    return {StatusCode::kInvalidConfig, message("values.num_stages is ", values.num_stages,
                                                "; it must be from 0 to ", kMaxStages)};
  }
  config.sink = values.sink;
  set_unless_zero(values.window, config.window);
  set_unless_zero(values.max_first_chunks, config.max_first_chunks);
  set_unless_zero(values.block_q, config.block_q);
  bool has_intervals = false;
  for (std::int32_t i = 0; i < values.num_stages; ++i) {
    HipAttnStage given;
    HIP_ATTN_RETURN_IF_ERROR(read_element({"values.stages", i}, values.stages, i, given));
    ScanStage stage;
    stage.chunk_size = given.chunk_size;
    stage.keep = given.keep;
    set_unless_zero(given.query_stride, stage.query_stride);
    stage.rule = static_cast<ScanRule>(given.rule);
    stage.reduction = static_cast<Reduction>(given.reduction);
    config.stages.push_back(stage);
    config.refresh_interval.push_back(to_int32(given.refresh_interval));
    has_intervals |= given.refresh_interval != 0;
  }
  if (!has_intervals) config.refresh_interval.clear();
  return validate(config);
}

struct Preset {
  std::string_view name;
  bool takes_max_len;
  HipConfig (*make)(const HipAttnPresetArgs& args);
};

constexpr Preset kPresets[] = {
    {"infinite_hip", false, [](const HipAttnPresetArgs&) { return presets::infinite_hip(); }},
    {"infinite_hip_fast", false,
     [](const HipAttnPresetArgs&) { return presets::infinite_hip_fast(); }},
    {"infinite_hip_softmax_sum", false,
     [](const HipAttnPresetArgs&) { return presets::infinite_hip_softmax_sum(); }},
    {"infinite_hip_5k", false, [](const HipAttnPresetArgs&) { return presets::infinite_hip_5k(); }},
    {"landmark", true,
     [](const HipAttnPresetArgs& args) { return presets::landmark(args.max_len); }},
    {"landmark_1k", true,
     [](const HipAttnPresetArgs& args) { return presets::landmark_1k(args.max_len); }},
    {"hip_classic", true,
     [](const HipAttnPresetArgs& args) {
       return presets::hip_classic(args.max_len, args.k, to_int32(args.block_k));
     }},
    {"sliding_window", false,
     [](const HipAttnPresetArgs& args) { return presets::sliding_window(args.window, args.sink); }},
    {"dense", false, [](const HipAttnPresetArgs&) { return presets::dense(); }},
};

Status preset_of(const char* name, const HipAttnPresetArgs& args, HipConfig& config) {
  const auto* const preset = std::ranges::find(kPresets, std::string_view(name), &Preset::name);
  if (preset == std::end(kPresets)) {
    std::string text = message("name is \"", name, "\"; it must be one of");
    for (const Preset& each : kPresets) text += message(" ", each.name);
    return {StatusCode::kInvalidArgument, text};
  }
  if (preset->takes_max_len && args.max_len < 1) {
    return {StatusCode::kInvalidConfig, message("args.max_len is ", args.max_len, "; for preset ",
                                                preset->name, " it must be at least 1")};
  }
  config = preset->make(args);
  return validate(config);
}

}  // namespace
}  // namespace hip_attn::c_api

using namespace hip_attn;
using namespace hip_attn::c_api;

HipAttnStatus hip_attn_config_create(const HipAttnConfigValues* values, HipAttnConfig** config,
                                     char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&] {
    return make_handle("config", config, [&](HipAttnConfig& made) -> Status {
      HipAttnConfigValues known;
      HIP_ATTN_RETURN_IF_ERROR(read_struct("values", values, known));
      HIP_ATTN_RETURN_IF_ERROR(config_of(known, made.config));
      made.landmark_chunk_sizes = landmark_chunk_sizes(made.config);
      return {};
    });
  });
}

HipAttnStatus hip_attn_config_from_preset(const char* name, const HipAttnPresetArgs* args,
                                          HipAttnConfig** config, char* message,
                                          size_t message_capacity) {
  return guarded({message, message_capacity}, [&] {
    return make_handle("config", config, [&](HipAttnConfig& made) -> Status {
      HIP_ATTN_RETURN_IF_ERROR(check_given("name", name, "the name of a preset"));
      HipAttnPresetArgs known{};
      if (args != nullptr) HIP_ATTN_RETURN_IF_ERROR(read_struct("args", args, known));
      HIP_ATTN_RETURN_IF_ERROR(preset_of(name, known, made.config));
      made.landmark_chunk_sizes = landmark_chunk_sizes(made.config);
      return {};
    });
  });
}

HipAttnStatus hip_attn_config_values(const HipAttnConfig* config, HipAttnConfigValues* values,
                                     char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("config", config, "a config"));
    HipAttnConfigValues known{};
    known.sink = config->config.sink;
    known.window = config->config.window;
    known.max_first_chunks = config->config.max_first_chunks;
    known.block_q = config->config.block_q;
    known.num_stages = config->config.num_stages();
    return write_struct("values", known, values);
  });
}

HipAttnStatus hip_attn_config_stage(const HipAttnConfig* config, int32_t index, HipAttnStage* stage,
                                    char* message, size_t message_capacity) {
  return guarded({message, message_capacity}, [&]() -> Status {
    HIP_ATTN_RETURN_IF_ERROR(check_given("config", config, "a config"));
    const HipConfig& made = config->config;
    if (index < 0 || index >= made.num_stages()) {
      return {StatusCode::kInvalidArgument, c_api::message("index is ", index, "; the config has ",
                                                           made.num_stages(), " stages")};
    }
    const ScanStage& found = made.stage(index);
    HipAttnStage known{};
    known.keep = found.keep;
    known.chunk_size = found.chunk_size;
    known.query_stride = found.query_stride;
    known.rule = static_cast<int32_t>(found.rule);
    known.reduction = static_cast<int32_t>(found.reduction);
    if (!made.refresh_interval.empty()) {
      known.refresh_interval = made.refresh_interval[static_cast<size_t>(index)];
    }
    return write_struct("stage", known, stage);
  });
}

int32_t hip_attn_config_refresh_from_at(const HipAttnConfig* config, int64_t step) {
  return config != nullptr ? refresh_from_at(config->config, step) : 0;
}

int32_t hip_attn_config_refresh_ahead_at(const HipAttnConfig* config, int64_t step) {
  return config != nullptr ? refresh_ahead_at(config->config, step) : 0;
}

int64_t hip_attn_config_window_start(const HipAttnConfig* config, int64_t p0) {
  return config != nullptr ? window_start(config->config, p0) : 0;
}

size_t hip_attn_config_landmark_chunk_sizes(const HipAttnConfig* config, int64_t* chunk_sizes,
                                            size_t capacity) {
  return config != nullptr ? copy_list(config->landmark_chunk_sizes, chunk_sizes, capacity) : 0;
}

void hip_attn_config_destroy(HipAttnConfig* config) { delete config; }
