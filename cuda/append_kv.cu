#include "cuda_backend.hpp"
#include "head_dims.hpp"
#include "hip_attn/cuda/launch/append_kv.cuh"

namespace hip_attn::cuda {

template <Element T>
Status append_kv(Device device, const AppendKvArgs<T>& args, Stream stream) {
  return visit_head_dim(args.k.sizes[2],
                        [&]<int kHeadDim>() { return append_kv<kHeadDim>(device, args, stream); });
}

template Status append_kv(Device, const AppendKvArgs<float>&, Stream);
template Status append_kv(Device, const AppendKvArgs<float16>&, Stream);
template Status append_kv(Device, const AppendKvArgs<bfloat16>&, Stream);

}  // namespace hip_attn::cuda
