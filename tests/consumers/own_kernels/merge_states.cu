#include "hip_attn/cuda/launch/merge_states.cuh"
#include "kernels.hpp"

namespace own {

hip_attn::Status merge_states(hip_attn::Device device,
                              const hip_attn::MergeStatesArgs<Element>& args,
                              hip_attn::Stream stream) {
  return hip_attn::cuda::merge_states<kHeadDim>(device, args, stream);
}

}  // namespace own
