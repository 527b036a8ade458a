/// Stands in for cuda/cuda_backend.cpp in a build without CUDA.

#include "cuda_backend.hpp"
#include "error.hpp"

namespace llama {

hip_attn::Status check_cuda() {
  return {hip_attn::StatusCode::kUnsupported, "this program was built without CUDA"};
}

std::unique_ptr<Backend> make_cuda_backend(hip_attn::ElementType) {
  throw Error(ErrorCode::kCuda, check_cuda().message());
}

}  // namespace llama
