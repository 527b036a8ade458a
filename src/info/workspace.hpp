// What a plan's workspace would take on a GPU that is not here. On a device the plan itself says
// it.
#pragma once

#include <cstddef>

#include "hip_attn/attention.hpp"
#include "hip_attn/cost.hpp"

namespace hip_attn::info {

std::size_t assumed_prefill_workspace(const AttentionPlan& plan, const PrefillKernels& kernels,
                                      const GpuProperties& gpu);
std::size_t assumed_decode_workspace(const AttentionPlan& plan, const DecodeTeams& teams);

}  // namespace hip_attn::info
