// Every key of the authors' configuration class: those that are read, and those that are only
// looked at. docs/guide/json-config.md has the same tables.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "json_reader.hpp"

namespace hip_attn::detail {

// Predicates of InertKey. Those on values come after those on types.
inline bool is_any(const Json&) { return true; }
inline bool is_boolean(const Json& json) { return json.is_boolean(); }
inline bool is_boolean_or_null(const Json& json) { return json.is_boolean() || json.is_null(); }
inline bool is_integer(const Json& json) { return json.is_number_integer(); }
inline bool is_integer_list(const Json& json) {
  return json.is_array() && std::ranges::all_of(json, is_integer);
}
inline bool is_number(const Json& json) { return json.is_number(); }
inline bool is_string(const Json& json) { return json.is_string(); }
inline bool is_string_or_null(const Json& json) { return json.is_string() || json.is_null(); }

inline bool is_true(const Json& json) { return json == true; }
inline bool is_not_true(const Json& json) { return json != true; }
inline bool is_zero(const Json& json) { return json == 0; }
inline bool is_below_one(const Json& json) { return json < 1; }
inline bool is_one_or_three(const Json& json) { return json == 1 || json == 3; }
inline bool is_empty_string(const Json& json) { return json == ""; }

inline constexpr std::string_view kNoExtension = "using_extend is false";
inline constexpr std::string_view kAlways = "the search always does so";

inline constexpr std::string_view kDocumentKeys[] = {"using_extend",
                                                     "layers",
                                                     "prefill_layers",
                                                     "dense_layers",
                                                     "mask_refresh_interval",
                                                     "force_dense",
                                                     "decode_always_dense",
                                                     "prefill_always_dense",
                                                     "prefill_dense_threshold",
                                                     "__using_dense_prefill"};
inline constexpr InertKey kInertDocumentKeys[] = {
    {"self_extend_scale", is_number, "a number", is_any, kNoExtension, ""},
    {"model_context_length", is_integer, "an integer", is_any, kNoExtension, ""},
    {"extend_context_length", is_integer, "an integer", is_any, kNoExtension, ""},
    {"metadata_cache_max_batch_size", is_integer, "an integer", is_any,
     "the caller sizes a SelectionCache", ""},
    {"block_sparse_block_size_q", is_integer, "an integer", is_any, "it tiles the authors' kernel",
     ""},
    {"apply_v_dot", is_boolean, "false", is_not_true, "it is false",
     "scores that weigh values are not supported: write false"},
    {"__delta_attention_args", is_string, "\"\"", is_empty_string, "it is empty",
     "delta attention is not supported: leave the key out"},
    {"__using_landmark", is_boolean, "false", is_not_true, "it is false",
     "landmarks are not supported: write false"},
    {"__last_dense", is_integer, "an integer", is_below_one, "it is below 1",
     "dense attention of the last rows of a prefill is not supported: write -1"},
    {"__seq_thresh_fa3", is_integer, "0", is_zero, "it is 0",
     "a blend of dense and sparse attention is not supported: write 0, and prefill_dense_threshold "
     "for prompts that start densely"},
    {"__head_reduce", is_integer, "an integer", is_one_or_three,
     "the query heads of a KV head share a selection",
     "a selection of each query head's own is not supported: write 1"},
};

inline constexpr std::string_view kLayerKeys[] = {"second_stage_k", "sliding_window_size",
                                                  "sink_token_size", "stages",
                                                  "sliding_window_size_for_masking_step"};
inline constexpr InertKey kInertLayerKeys[] = {
    {"sa_extend_backend", is_string, "a string", is_any, kNoExtension, ""},
    {"scan_extend_backend", is_string_or_null, "a string or null", is_any, kNoExtension, ""},
    {"landmark_stage_k", is_integer_list, "a list of integers", is_any, "no stage has landmarks",
     ""},
};

inline constexpr std::string_view kStageKeys[] = {"stage_block_size_q", "stage_block_stride_q",
                                                  "stage_chunk_size", "stage_k", "stage_stride"};
inline constexpr InertKey kInertStageKeys[] = {
    {"stage_extend_backend", is_string_or_null, "a string or null", is_any, kNoExtension, ""},
    {"using_landmark", is_boolean_or_null, "false or null", is_not_true, "it is not true",
     "landmarks are not supported: write false"},
    {"require_realign_index", is_boolean, "true", is_true, kAlways, "only true is supported"},
    {"require_reset_score", is_boolean, "true", is_true, kAlways, "only true is supported"},
    {"require_post_sort", is_boolean, "true", is_true, kAlways, "only true is supported"},
};

}  // namespace hip_attn::detail
