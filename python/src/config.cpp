#include "handles.hpp"

namespace hip_attn::python {
namespace {

// chunk_size, keep, query_stride, rule, reduction, refresh_interval.
using StageTuple =
    std::tuple<std::int32_t, std::int64_t, std::int32_t, std::int32_t, std::int32_t, std::int64_t>;
// sink, window, block_q, max_first_chunks, stages.
using ConfigTuple =
    std::tuple<std::int64_t, std::int64_t, std::int32_t, std::int64_t, std::vector<StageTuple>>;

ConfigObject make_config(const ConfigTuple& tuple) {
  std::vector<HipAttnStage> stages;
  for (const StageTuple& given : std::get<4>(tuple)) {
    auto stage = zeroed<HipAttnStage>();
    std::tie(stage.chunk_size, stage.keep, stage.query_stride, stage.rule, stage.reduction,
             stage.refresh_interval) = given;
    stages.push_back(stage);
  }
  auto values = zeroed<HipAttnConfigValues>();
  std::tie(values.sink, values.window, values.block_q, values.max_first_chunks, std::ignore) =
      tuple;
  values.num_stages = static_cast<std::int32_t>(stages.size());
  values.stages = stages.data();
  HipAttnConfig* config = nullptr;
  check([&](char* message, std::size_t capacity) {
    return hip_attn_config_create(&values, &config, message, capacity);
  });
  return {ConfigHandle(config)};
}

ConfigObject preset(const char* name, std::int64_t max_len, std::int64_t k, std::int64_t block_k,
                    std::int64_t window, std::int64_t sink) {
  auto args = zeroed<HipAttnPresetArgs>();
  args.max_len = max_len;
  args.k = k;
  args.block_k = block_k;
  args.window = window;
  args.sink = sink;
  HipAttnConfig* config = nullptr;
  check([&](char* message, std::size_t capacity) {
    return hip_attn_config_from_preset(name, &args, &config, message, capacity);
  });
  return {ConfigHandle(config)};
}

ConfigTuple values_of(const ConfigObject& config) {
  auto values = zeroed<HipAttnConfigValues>();
  check([&](char* message, std::size_t capacity) {
    return hip_attn_config_values(config.handle.get(), &values, message, capacity);
  });
  std::vector<StageTuple> stages;
  for (std::int32_t i = 0; i < values.num_stages; ++i) {
    auto stage = zeroed<HipAttnStage>();
    check([&](char* message, std::size_t capacity) {
      return hip_attn_config_stage(config.handle.get(), i, &stage, message, capacity);
    });
    stages.emplace_back(stage.chunk_size, stage.keep, stage.query_stride, stage.rule,
                        stage.reduction, stage.refresh_interval);
  }
  return {values.sink, values.window, values.block_q, values.max_first_chunks, std::move(stages)};
}

std::vector<std::int64_t> landmark_chunk_sizes(const ConfigObject& config) {
  std::vector<std::int64_t> sizes(
      hip_attn_config_landmark_chunk_sizes(config.handle.get(), nullptr, 0));
  hip_attn_config_landmark_chunk_sizes(config.handle.get(), sizes.data(), sizes.size());
  return sizes;
}

ModelConfigHandle parse(const std::string& json) {
  HipAttnModelConfig* model = nullptr;
  check([&](char* message, std::size_t capacity) {
    return hip_attn_model_config_parse(json.data(), json.size(), &model, message, capacity);
  });
  return ModelConfigHandle(model);
}

struct ModelConfigObject {
  ModelConfigHandle handle;
};

template <auto function>
ConfigObject of_layer(const ModelConfigObject& model, std::int32_t layer) {
  HipAttnConfig* config = nullptr;
  check([&](char* message, std::size_t capacity) {
    return function(model.handle.get(), layer, &config, message, capacity);
  });
  return {ConfigHandle(config)};
}

std::vector<std::int32_t> dense_layers(const ModelConfigObject& model) {
  std::vector<std::int32_t> layers(
      hip_attn_model_config_dense_layers(model.handle.get(), nullptr, 0));
  hip_attn_model_config_dense_layers(model.handle.get(), layers.data(), layers.size());
  return layers;
}

std::vector<std::string> notes(const ModelConfigObject& model) {
  std::vector<std::string> notes;
  for (std::size_t i = 0; i < hip_attn_model_config_num_notes(model.handle.get()); ++i) {
    notes.emplace_back(hip_attn_model_config_note(model.handle.get(), i));
  }
  return notes;
}

}  // namespace

void bind_config(nb::module_& module) {
  nb::class_<ConfigObject>(module, "ConfigHandle", "What a hip_attn.Config holds.")
      .def("values", values_of)
      .def(
          "refresh_from_at",
          [](const ConfigObject& config, std::int64_t step) {
            return hip_attn_config_refresh_from_at(config.handle.get(), step);
          },
          nb::arg("step"))
      .def(
          "refresh_ahead_at",
          [](const ConfigObject& config, std::int64_t step) {
            return hip_attn_config_refresh_ahead_at(config.handle.get(), step);
          },
          nb::arg("step"))
      .def(
          "window_start",
          [](const ConfigObject& config, std::int64_t position) {
            return hip_attn_config_window_start(config.handle.get(), position);
          },
          nb::arg("position"))
      .def("landmark_chunk_sizes", landmark_chunk_sizes);
  module.def("make_config", make_config, nb::arg("values"));
  module.def("preset", preset, nb::arg("name"), nb::arg("max_len"), nb::arg("k"),
             nb::arg("block_k"), nb::arg("window"), nb::arg("sink"));

  nb::class_<ModelConfigObject>(module, "ModelConfigHandle", "What a hip_attn.ModelConfig holds.")
      .def(
          "__init__",
          [](ModelConfigObject* self, const std::string& json) {
            new (self) ModelConfigObject{parse(json)};
          },
          nb::arg("json"))
      .def("decode", of_layer<hip_attn_model_config_decode>, nb::arg("layer"))
      .def("prefill", of_layer<hip_attn_model_config_prefill>, nb::arg("layer"))
      .def("prefill_dense_until",
           [](const ModelConfigObject& model) {
             return hip_attn_model_config_prefill_dense_until(model.handle.get());
           })
      .def("dense_layers", dense_layers)
      .def("notes", notes);
}

}  // namespace hip_attn::python
