/// What the sparse attention computes: sink, window and the stages of the search
/// (hip_attn/config.hpp, docs/guide/algorithm.md).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/export.h"
#include "hip_attn/c/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/// How a stage scores a chunk of keys: hip_attn::ScanRule.
enum {
  HIP_ATTN_RULE_DESCENT = 0,   ///< binary descent, two keys per level
  HIP_ATTN_RULE_CENTRE = 1,    ///< the chunk's centre key alone
  HIP_ATTN_RULE_LANDMARK = 2,  ///< the chunk's landmark
  HIP_ATTN_RULE_EVERY_KEY = 3  ///< every key of the chunk
};

/// From the pooled rows' logits of a chunk to one score: hip_attn::Reduction.
enum {
  HIP_ATTN_REDUCTION_MAXIMUM = 0,     ///< the largest logit of any row
  HIP_ATTN_REDUCTION_SOFTMAX_SUM = 1  ///< the attention mass that the rows give the chunk
};

/// One pruning stage of the search: hip_attn::ScanStage.
typedef struct HipAttnStage {
  size_t struct_size;
  int64_t keep;          ///< tokens that survive; a multiple of chunk_size. 0: see HipConfig
  int32_t chunk_size;    ///< tokens; a power of two that divides the stage before's
  int32_t query_stride;  ///< positions averaged into one pooled query; 0: 1
  int32_t rule;          ///< HIP_ATTN_RULE_*
  int32_t reduction;     ///< HIP_ATTN_REDUCTION_*
  /// Decode steps between two runs of the stage; in all stages or, 0, in none: every step.
  int64_t refresh_interval;
} HipAttnStage;

/// A configuration by value: hip_attn::HipConfig.
typedef struct HipAttnConfigValues {
  size_t struct_size;
  int64_t sink;              ///< tokens at the start that every row attends
  int64_t window;            ///< latest tokens that every row attends, itself included; 0: 1
  int64_t max_first_chunks;  ///< chunks that the first stage scores at most; 0: 4096
  int32_t block_q;           ///< positions that share one selection in prefill; 0: 64
  int32_t num_stages;        ///< 0 to 32; 0: dense attention
  /// num_stages structs, one behind the other, all of the size that the first one states.
  const HipAttnStage* stages;
} HipAttnConfigValues;

/// What presets take; a preset looks at its own members alone.
typedef struct HipAttnPresetArgs {
  size_t struct_size;
  int64_t max_len;  ///< tokens of the longest request: landmark, landmark_1k, hip_classic
  int64_t k;        ///< hip_classic: tokens kept
  int64_t block_k;  ///< hip_classic: tokens of a block
  int64_t window;   ///< sliding_window
  int64_t sink;     ///< sliding_window
} HipAttnPresetArgs;

/// A valid configuration that does not change. Any number of threads may use it.
typedef struct HipAttnConfig HipAttnConfig;

/// Errors: NULL_POINTER, INVALID_ARGUMENT, INVALID_CONFIG, OUT_OF_MEMORY.
HIP_ATTN_API HipAttnStatus hip_attn_config_create(const HipAttnConfigValues* values,
                                                  HipAttnConfig** config, char* message,
                                                  size_t message_capacity);

/// A preset by the name of its function in hip_attn::presets: "infinite_hip", "infinite_hip_fast",
/// "infinite_hip_softmax_sum", "infinite_hip_5k", "landmark", "landmark_1k", "hip_classic",
/// "sliding_window" or "dense". `args` may be null for those that take nothing. To change one, read
/// its values and stages and create another. Errors: as hip_attn_config_create.
HIP_ATTN_API HipAttnStatus hip_attn_config_from_preset(const char* name,
                                                       const HipAttnPresetArgs* args,
                                                       HipAttnConfig** config, char* message,
                                                       size_t message_capacity);

/// Writes all members of `values` but stages, which becomes null, and struct_size, which says how
/// much may be written. Errors: NULL_POINTER, INVALID_ARGUMENT.
HIP_ATTN_API HipAttnStatus hip_attn_config_values(const HipAttnConfig* config,
                                                  HipAttnConfigValues* values, char* message,
                                                  size_t message_capacity);

/// The same for stage `index`, 0 to num_stages - 1. Errors: NULL_POINTER, INVALID_ARGUMENT.
HIP_ATTN_API HipAttnStatus hip_attn_config_stage(const HipAttnConfig* config, int32_t index,
                                                 HipAttnStage* stage, char* message,
                                                 size_t message_capacity);

/// The first stage to run again at decode step `step` (0, 1, 2, ...) of a request: a value for
/// HipAttnSelectionCache::refresh_from. 0 for a null config.
HIP_ATTN_API int32_t hip_attn_config_refresh_from_at(const HipAttnConfig* config, int64_t step);

/// The same with searches ahead (hip_attn::refresh_ahead_at), for a cache in host memory. Below 0:
/// the step reuses its selection, and stages from -1 - value on but the last run for the next one.
/// To be followed at every step: after one that did not, refresh_from_at says what is due.
HIP_ATTN_API int32_t hip_attn_config_refresh_ahead_at(const HipAttnConfig* config, int64_t step);

/// The first key of the window (W0) for a query block whose first row stands at position p0. 0 for
/// a null config.
HIP_ATTN_API int64_t hip_attn_config_window_start(const HipAttnConfig* config, int64_t p0);

/// The chunk sizes of the landmark levels that a call with the config needs, ascending. Writes the
/// first `capacity` and returns how many there are; 0 for a null config.
HIP_ATTN_API size_t hip_attn_config_landmark_chunk_sizes(const HipAttnConfig* config,
                                                         int64_t* chunk_sizes, size_t capacity);

HIP_ATTN_API void hip_attn_config_destroy(HipAttnConfig* config);

#ifdef __cplusplus
}
#endif
