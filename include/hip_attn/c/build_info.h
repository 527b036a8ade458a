/// What this build of the library contains (hip_attn/build_info.hpp).
///
/// A function that lists something writes the first `capacity` entries and returns how many there
/// are: call it with null and 0 to ask for the number.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hip_attn/c/export.h"
#include "hip_attn/c/status.h"
#include "hip_attn/c/tensor.h"
#include "hip_attn/version.hpp"

#ifdef __cplusplus
extern "C" {
#endif

/// "0.1.0": of the library that runs. HIP_ATTN_VERSION_MAJOR, _MINOR and _PATCH are the headers'.
HIP_ATTN_API const char* hip_attn_version(void);

HIP_ATTN_API size_t hip_attn_built_head_dims(int64_t* head_dims, size_t capacity);
/// Of a cache, and of q and out over it; float32 over a cache of another type is built with it.
HIP_ATTN_API size_t hip_attn_built_dtypes(DLDataType* dtypes, size_t capacity);

/// 1 when the CUDA backend was compiled in, else 0. Says nothing of a GPU: see
/// hip_attn_check_device.
HIP_ATTN_API int hip_attn_built_with_cuda(void);

/// The instruction set that the CPU backend chose on this machine: "x86-64-v4", "x86-64-v3",
/// "baseline".
HIP_ATTN_API const char* hip_attn_cpu_instruction_set(void);

/// Ok when the library can run on the device (kDLCPU or kDLCUDA) here and now. Errors: UNSUPPORTED
/// (not built, no such GPU, another kind of device), CUDA_ERROR.
HIP_ATTN_API HipAttnStatus hip_attn_check_device(DLDevice device, char* message,
                                                 size_t message_capacity);

#ifdef __cplusplus
}
#endif
