#include "hip_attn/cuda/launch/append_kv.cuh"
#include "kernels.hpp"

namespace own {

hip_attn::Status append_kv(hip_attn::Device device, const hip_attn::AppendKvArgs<Element>& args,
                           hip_attn::Stream stream) {
  return hip_attn::cuda::append_kv<kHeadDim>(device, args, stream);
}

}  // namespace own
