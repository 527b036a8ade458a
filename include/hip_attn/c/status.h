/// Status codes of the C interface, and what all of its functions have in common.
///
/// A function that can fail returns a HipAttnStatus, and takes last where its message goes: a
/// buffer of `message_capacity` bytes, which gets text that ends with a zero, cut where it is too
/// long, and "" on success. A message names the argument, its value and what is accepted. Null or
/// no bytes: no message. No C++ exception leaves a function: where
/// memory is missing it returns OUT_OF_MEMORY, and after any other exception INTERNAL_ERROR. What a
/// function writes apart from the message (a handle, values) it writes on success alone.
///
/// A struct of this interface begins with struct_size, which its user sets to sizeof of it; a later
/// version appends members. A smaller struct, of an older header, is taken: the members that it
/// lacks are absent. One of a newer header is taken if the members that this library does not know
/// are zero. So set the whole struct to zero, then struct_size, then what you have.
///
/// A null pointer in a struct is an absent argument. Handles (HipAttnConfig, HipAttnModelConfig,
/// HipAttnPlan, HipAttnThreadTeam, HipAttnHostMemory,
/// HipAttnKvStorePlan) are made by the library and given back to its destroy functions,
/// which take null too. What a handle was made of can go before it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/// hip_attn::StatusCode (hip_attn/status.hpp), by the same numbers.
typedef enum HipAttnStatus {
  HIP_ATTN_OK = 0,
  HIP_ATTN_NULL_POINTER = 1,        ///< a required pointer is null
  HIP_ATTN_MISALIGNED_POINTER = 2,  ///< a pointer or a row stride is not a multiple of 16 bytes
  HIP_ATTN_INVALID_STRIDE = 3,      ///< a last-dimension stride other than 1, or a negative stride
  HIP_ATTN_INVALID_SHAPE = 4,       ///< sizes that contradict each other or the plan
  HIP_ATTN_INVALID_CONFIG = 5,      ///< a configuration that breaks a rule
  HIP_ATTN_UNSUPPORTED = 6,         ///< an element type, head dim or device that is not built
  HIP_ATTN_WORKSPACE_TOO_SMALL = 7,
  HIP_ATTN_EXCEEDS_PLAN = 8,    ///< more requests, rows or keys than the plan was made for
  HIP_ATTN_INVALID_LENGTH = 9,  ///< a negative length, or row starts that do not ascend from 0
  HIP_ATTN_SEQ_LEN_BEYOND_BLOCK_TABLE = 10,
  HIP_ATTN_QUERY_LONGER_THAN_SEQUENCE = 11,
  HIP_ATTN_TOO_MANY_DECODE_ROWS = 12,  ///< more than 8 query rows in one request of a decode call
  HIP_ATTN_INVALID_PAGE = 13,          ///< an entry of a block table that is not a page
  HIP_ATTN_INVALID_SLOT = 14,          ///< a slot out of range
  HIP_ATTN_INVALID_SELECTION = 15,     ///< a given selection not ascending, in range and causal
  HIP_ATTN_MALFORMED_JSON = 16,
  HIP_ATTN_UNKNOWN_KEY = 17,       ///< a JSON key that this library cannot honour
  HIP_ATTN_CUDA_ERROR = 18,        ///< a CUDA call failed; the message carries CUDA's own words
  HIP_ATTN_INVALID_SCALAR = 19,    ///< a scalar that is not finite or out of range
  HIP_ATTN_OVERLAP = 20,           ///< an output that shares memory with something else
  HIP_ATTN_INVALID_ARGUMENT = 21,  ///< a tensor of another dtype, device or rank than the argument
                                   ///< takes, a name that is not known, or a bad struct_size
  HIP_ATTN_OUT_OF_MEMORY = 22,     ///< no memory for what the library itself allocates
  HIP_ATTN_BUDGET_TOO_SMALL = 23,  ///< the message says how many bytes are needed
  HIP_ATTN_INTERNAL_ERROR = 24     ///< a C++ exception, whose words the message carries
} HipAttnStatus;

/// "InvalidConfig" for HIP_ATTN_INVALID_CONFIG; "Unknown" for what is no code.
HIP_ATTN_API const char* hip_attn_status_name(HipAttnStatus status);

#ifdef __cplusplus
}
#endif
