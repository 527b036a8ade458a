#include "cuda_backend.hpp"
#include "hip_attn/cuda/launch/merge_states.cuh"
#include "hip_attn_instantiations.hpp"

namespace hip_attn::cuda {

template <Element T>
Status merge_states(Device device, const MergeStatesArgs<T>& args, Stream stream) {
  switch (args.out.sizes[2]) {
#define HIP_ATTN_CASE(kHeadDim) \
  case kHeadDim:                \
    return merge_states<kHeadDim>(device, args, stream);
    HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_CASE)
#undef HIP_ATTN_CASE
  }
  return {};
}

template Status merge_states(Device, const MergeStatesArgs<float>&, Stream);
template Status merge_states(Device, const MergeStatesArgs<float16>&, Stream);
template Status merge_states(Device, const MergeStatesArgs<bfloat16>&, Stream);

}  // namespace hip_attn::cuda
