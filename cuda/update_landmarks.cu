#include "cuda_backend.hpp"
#include "head_dims.hpp"
#include "hip_attn/cuda/launch/update_landmarks.cuh"

namespace hip_attn::cuda {

template <Element T>
Status update_landmarks(Device device, const UpdateLandmarksArgs<T>& args, Stream stream) {
  return visit_head_dim(args.kv.pages.head_dim(), [&]<int kHeadDim>() {
    return update_landmarks<kHeadDim>(device, args, stream);
  });
}

template Status update_landmarks(Device, const UpdateLandmarksArgs<float>&, Stream);
template Status update_landmarks(Device, const UpdateLandmarksArgs<float16>&, Stream);
template Status update_landmarks(Device, const UpdateLandmarksArgs<bfloat16>&, Stream);

}  // namespace hip_attn::cuda
