#include "cuda_backend.hpp"
#include "head_dims.hpp"
#include "hip_attn/cuda/launch/sink_logits.cuh"

namespace hip_attn::cuda {

template <Element T>
Status add_sink_logits(Device device, const AddSinkLogitsArgs<T>& args, Stream stream) {
  return visit_head_dim(args.out.sizes[2], [&]<int kHeadDim>() {
    return add_sink_logits<kHeadDim>(device, args, stream);
  });
}

template Status add_sink_logits(Device, const AddSinkLogitsArgs<float>&, Stream);
template Status add_sink_logits(Device, const AddSinkLogitsArgs<float16>&, Stream);
template Status add_sink_logits(Device, const AddSinkLogitsArgs<bfloat16>&, Stream);

}  // namespace hip_attn::cuda
