#include "cuda_backend.hpp"
#include "hip_attn/cuda/launch/append_kv.cuh"
#include "hip_attn_instantiations.hpp"

namespace hip_attn::cuda {

template <Element T>
Status append_kv(Device device, const AppendKvArgs<T>& args, Stream stream) {
  switch (args.k.sizes[2]) {
#define HIP_ATTN_CASE(kHeadDim) \
  case kHeadDim:                \
    return append_kv<kHeadDim>(device, args, stream);
    HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_CASE)
#undef HIP_ATTN_CASE
  }
  return {};
}

template Status append_kv(Device, const AppendKvArgs<float>&, Stream);
template Status append_kv(Device, const AppendKvArgs<float16>&, Stream);
template Status append_kv(Device, const AppendKvArgs<bfloat16>&, Stream);

}  // namespace hip_attn::cuda
