#include "hip_attn/cuda/launch/prefill.cuh"
#include "kernels.hpp"
#include "traits.cuh"

namespace own {

hip_attn::Status plan_prefill(const hip_attn::HipConfig& config,
                              const hip_attn::AttentionShape& shape,
                              hip_attn::AttentionPlan& plan) {
  return hip_attn::cuda::plan_prefill<OwnTraits>(config, shape, plan);
}

hip_attn::Status run_prefill(const hip_attn::AttentionPlan& plan, const Args& args,
                             hip_attn::Workspace workspace, hip_attn::Stream stream) {
  return hip_attn::cuda::run_prefill<OwnTraits>(plan, args, workspace, stream);
}

}  // namespace own
