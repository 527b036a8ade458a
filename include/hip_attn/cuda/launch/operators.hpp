/// Decode and prefill on CUDA as templates over traits (cuda/traits.hpp): decode.cuh and
/// prefill.cuh define them. The library has them compiled for the traits of every type and head dim
/// that it was built for; whoever needs others includes the definitions in a source for nvcc.
#pragma once

#include <cstddef>
#include <string>

#include "hip_attn/attention.hpp"
#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/traits.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// Completes a plan that begin_plan() has begun: schedule, workspace, limits. For the device of its
/// shape, whose driver is asked.
template <typename Traits>
Status plan_decode(AttentionPlan& plan);
template <typename Traits>
Status plan_prefill(AttentionPlan& plan);

/// Runs a call whose arguments check_call() has found right. q and out are of T, the type of the
/// products or float. Nothing here allocates or synchronises.
template <typename Traits, Element T>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                  std::byte* workspace, Stream stream);
template <typename Traits, Element T>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                   std::byte* workspace, Stream stream);

/// What the kernels' parameters have no room for; `name` is the operator's.
inline Status check_stages(const HipConfig& config, const char* name) {
  if (config.num_stages() <= kMaxStages) return {};
  return {StatusCode::kUnsupported, "config has " + std::to_string(config.num_stages()) +
                                        " stages; " + name + " on CUDA takes up to " +
                                        std::to_string(kMaxStages)};
}

}  // namespace hip_attn::cuda
