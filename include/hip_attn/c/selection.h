/// Selections, and the memory that decode keeps them in (hip_attn/selection.hpp).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/// The selected blocks of every unit (query block, KV head) of a call: hip_attn::SelectionView.
/// Decode: row b is request b. Prefill: see hip_attn_selection_row.
typedef struct HipAttnSelection {
  size_t struct_size;
  const DLTensor* blocks;        ///< int32 [rows, Hk, >= max_selected_blocks] ascending
  const DLTensor* counts;        ///< int32 [rows, Hk] blocks that are selected
  const DLTensor* window_start;  ///< int32 [rows, Hk] W0
} HipAttnSelection;

/// Decode's memory between steps: hip_attn::SelectionCache. The caller zeroes it once.
typedef struct HipAttnSelectionCache {
  size_t struct_size;
  const DLTensor*
      data;  ///< uint8 [at least num_slots * selection_cache_slot_bytes], 16-byte aligned
  int64_t num_slots;
  /// int32 [B]: the first stage that request b runs again, or below 0 a search ahead, behind which
  /// at least the last stage runs (hip_attn_config_refresh_from_at,
  /// hip_attn_config_refresh_ahead_at).
  const DLTensor* refresh_from;
  const DLTensor* slots;  ///< int32 [B]: the slot of request b. Absent: slot b
} HipAttnSelectionCache;

#ifdef __cplusplus
}
#endif
