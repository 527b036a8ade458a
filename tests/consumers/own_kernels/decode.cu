#include "hip_attn/cuda/launch/decode.cuh"
#include "kernels.hpp"
#include "traits.cuh"

namespace own {

// [own-decode]
hip_attn::Status plan_decode(const hip_attn::HipConfig& config,
                             const hip_attn::AttentionShape& shape, hip_attn::AttentionPlan& plan) {
  return hip_attn::cuda::plan_decode<OwnTraits>(config, shape, plan);
}

hip_attn::Status run_decode(const hip_attn::AttentionPlan& plan,
                            const hip_attn::AttentionArgs<hip_attn::bfloat16>& args,
                            hip_attn::Workspace workspace, hip_attn::Stream stream) {
  return hip_attn::cuda::run_decode<OwnTraits>(plan, args, workspace, stream);
}
// [own-decode]

}  // namespace own
