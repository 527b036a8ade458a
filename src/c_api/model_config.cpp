// The authors' JSON in the C interface.
#include "hip_attn/c/model_config.h"

#include <string_view>

#include "c_api/handles.hpp"
#include "hip_attn/landmarks.hpp"

namespace hip_attn::c_api {
namespace {

// of_layer is ModelConfig::decode or ModelConfig::prefill.
HipAttnStatus layer_config(const HipAttnModelConfig* model,
                           const HipConfig& (ModelConfig::*of_layer)(std::int32_t) const,
                           std::int32_t layer, HipAttnConfig** config,
                           MessageBuffer buffer) noexcept {
  return guarded(buffer, [&] {
    return make_handle("config", config, [&](HipAttnConfig& made) -> Status {
      HIP_ATTN_RETURN_IF_ERROR(check_given("model", model, "a model config"));
      if (layer < 0) {
        return {StatusCode::kInvalidArgument,
                message("layer is ", layer, "; it must not be negative")};
      }
      made.config = (model->model.*of_layer)(layer);
      made.landmark_chunk_sizes = landmark_chunk_sizes(made.config);
      return {};
    });
  });
}

}  // namespace
}  // namespace hip_attn::c_api

using namespace hip_attn;
using namespace hip_attn::c_api;

HipAttnStatus hip_attn_model_config_parse(const char* json, size_t json_size,
                                          HipAttnModelConfig** model, char* message,
                                          size_t message_capacity) {
  return guarded({message, message_capacity}, [&] {
    return make_handle("model", model, [&](HipAttnModelConfig& made) -> Status {
      HIP_ATTN_RETURN_IF_ERROR(check_given("json", json, "text"));
      return parse_model_config(std::string_view(json, json_size), made.model, &made.notes);
    });
  });
}

HipAttnStatus hip_attn_model_config_decode(const HipAttnModelConfig* model, int32_t layer,
                                           HipAttnConfig** config, char* message,
                                           size_t message_capacity) {
  return layer_config(model, &ModelConfig::decode, layer, config, {message, message_capacity});
}

HipAttnStatus hip_attn_model_config_prefill(const HipAttnModelConfig* model, int32_t layer,
                                            HipAttnConfig** config, char* message,
                                            size_t message_capacity) {
  return layer_config(model, &ModelConfig::prefill, layer, config, {message, message_capacity});
}

int64_t hip_attn_model_config_prefill_dense_until(const HipAttnModelConfig* model) {
  return model != nullptr ? model->model.prefill_dense_until : 0;
}

size_t hip_attn_model_config_dense_layers(const HipAttnModelConfig* model, int32_t* layers,
                                          size_t capacity) {
  return model != nullptr ? copy_list(model->model.dense_layers, layers, capacity) : 0;
}

size_t hip_attn_model_config_num_notes(const HipAttnModelConfig* model) {
  return model != nullptr ? model->notes.size() : 0;
}

const char* hip_attn_model_config_note(const HipAttnModelConfig* model, size_t index) {
  return index < hip_attn_model_config_num_notes(model) ? model->notes[index].c_str() : nullptr;
}

void hip_attn_model_config_destroy(HipAttnModelConfig* model) { delete model; }
