// Attention of prefill on compute capability 9.0, as the host side of prefill sees it.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

// Whether this build has the kernel for the head dim; readies it on the current device, which is of
// compute capability 9.0, when it has.
template <typename T>
Status prepare_hopper_attend(std::int64_t head_dim, bool& available);

// Attends on the current device. Only after prepare_hopper_attend found the kernel available.
template <typename T>
Status launch_hopper_attend(const PrefillParams<T>& params, std::int64_t head_dim, Stream stream);

}  // namespace hip_attn::cuda
