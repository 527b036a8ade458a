/// Reads the JSON configuration of the authors' package (hip_attn/config_json.hpp,
/// docs/guide/json-config.md).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/config.h"
#include "hip_attn/c/export.h"
#include "hip_attn/c/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/// The configuration of every layer of a model. It does not change.
typedef struct HipAttnModelConfig HipAttnModelConfig;

/// Parses `json_size` bytes of text, which need not end with a zero. Errors: NULL_POINTER,
/// MALFORMED_JSON, UNKNOWN_KEY, INVALID_CONFIG, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_model_config_parse(const char* json, size_t json_size,
                                                       HipAttnModelConfig** model, char* message,
                                                       size_t message_capacity);

/// What decode, or prefill, of layer `layer` (>= 0) is configured with: a config of the caller's.
/// Errors: NULL_POINTER, INVALID_ARGUMENT, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_model_config_decode(const HipAttnModelConfig* model,
                                                        int32_t layer, HipAttnConfig** config,
                                                        char* message, size_t message_capacity);
HIP_ATTN_API HipAttnStatus hip_attn_model_config_prefill(const HipAttnModelConfig* model,
                                                         int32_t layer, HipAttnConfig** config,
                                                         char* message, size_t message_capacity);

/// For hip_attn_plan_set_dense_until of prefill's plans: ModelConfig::prefill_dense_until.
HIP_ATTN_API int64_t hip_attn_model_config_prefill_dense_until(const HipAttnModelConfig* model);

/// The dense layers' numbers, ascending. Writes the first `capacity`, returns how many there are.
HIP_ATTN_API size_t hip_attn_model_config_dense_layers(const HipAttnModelConfig* model,
                                                       int32_t* layers, size_t capacity);

/// What is worth a sentence of the document: keys without an effect, absent keys that mean
/// something.
HIP_ATTN_API size_t hip_attn_model_config_num_notes(const HipAttnModelConfig* model);
/// Note `index`, for as long as the model config is there; null where there is none.
HIP_ATTN_API const char* hip_attn_model_config_note(const HipAttnModelConfig* model, size_t index);

HIP_ATTN_API void hip_attn_model_config_destroy(HipAttnModelConfig* model);

#ifdef __cplusplus
}
#endif
