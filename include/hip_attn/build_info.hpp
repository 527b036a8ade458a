/// What this build of the library contains.
#pragma once

#include <cstdint>
#include <span>

#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn {

/// "0.2.0"
HIP_ATTN_API const char* version() noexcept;

HIP_ATTN_API std::span<const std::int64_t> built_head_dims() noexcept;
/// Of a cache, and of q and out over it; floats over a cache of another type are built with it.
HIP_ATTN_API std::span<const ElementType> built_element_types() noexcept;

/// True when the CUDA backend was compiled in. Says nothing of a GPU: see check_device.
HIP_ATTN_API bool built_with_cuda() noexcept;

/// Ok when the library can run on the device here and now; otherwise kUnsupported (not built, no
/// such GPU) or kCudaError (the driver's own words).
HIP_ATTN_API Status check_device(Device device);

/// The instruction set that the CPU backend chose on this machine: "x86-64-v4", "x86-64-v3",
/// "baseline".
HIP_ATTN_API const char* cpu_instruction_set() noexcept;

}  // namespace hip_attn
