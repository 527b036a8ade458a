#include "hip_attn/cuda/launch/decode.cuh"
#include "kernels.hpp"
#include "traits.cuh"

namespace own {

using namespace hip_attn;

// [own-decode]
Status plan_decode(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  return hip_attn::cuda::plan_decode<OwnTraits>(config, shape, plan);
}

Status run_decode(const AttentionPlan& plan, const AttentionArgs<bfloat16>& args,
                  Workspace workspace, Stream stream) {
  return hip_attn::cuda::run_decode<OwnTraits>(plan, args, workspace, stream);
}
// [own-decode]

}  // namespace own
