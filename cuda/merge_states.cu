#include "cuda_backend.hpp"
#include "head_dims.hpp"
#include "hip_attn/cuda/launch/merge_states.cuh"

namespace hip_attn::cuda {

template <Element T>
Status merge_states(Device device, const MergeStatesArgs<T>& args, Stream stream) {
  return visit_head_dim(args.out.sizes[2], [&]<int kHeadDim>() {
    return merge_states<kHeadDim>(device, args, stream);
  });
}

template Status merge_states(Device, const MergeStatesArgs<float>&, Stream);
template Status merge_states(Device, const MergeStatesArgs<float16>&, Stream);
template Status merge_states(Device, const MergeStatesArgs<bfloat16>&, Stream);

}  // namespace hip_attn::cuda
