// What the sources for nvcc compile, as the rest of the program sees it. Templates over traits stay
// in those sources: their headers are for nvcc alone.
#pragma once

#include "hip_attn/hip_attn.hpp"

namespace own {

/// One that the library cannot be built for.
inline constexpr int kHeadDim = 224;

using Element = hip_attn::bfloat16;
using Args = hip_attn::AttentionArgs<Element>;

hip_attn::Status plan_decode(const hip_attn::HipConfig& config,
                             const hip_attn::AttentionShape& shape, hip_attn::AttentionPlan& plan);
hip_attn::Status plan_prefill(const hip_attn::HipConfig& config,
                              const hip_attn::AttentionShape& shape, hip_attn::AttentionPlan& plan);

hip_attn::Status run_decode(const hip_attn::AttentionPlan& plan, const Args& args,
                            hip_attn::Workspace workspace, hip_attn::Stream stream);
hip_attn::Status run_prefill(const hip_attn::AttentionPlan& plan, const Args& args,
                             hip_attn::Workspace workspace, hip_attn::Stream stream);

/// Their arguments are right: nothing checks them.
hip_attn::Status append_kv(hip_attn::Device device, const hip_attn::AppendKvArgs<Element>& args,
                           hip_attn::Stream stream);
hip_attn::Status merge_states(hip_attn::Device device,
                              const hip_attn::MergeStatesArgs<Element>& args,
                              hip_attn::Stream stream);

}  // namespace own
