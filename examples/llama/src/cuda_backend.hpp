/// One GPU: cuBLAS for products, small kernels for the rest.
#pragma once

#include <memory>

#include "backend.hpp"
#include "hip_attn/status.hpp"

namespace llama {

/// Ok when this program and hip_attn were built with CUDA and there is a GPU for both. Otherwise
/// says why not.
hip_attn::Status check_cuda();

/// Weights, activations and KV cache are of `type`, bfloat16 or float16; sums and products are
/// accumulated in float32. Errors: kCuda.
std::unique_ptr<Backend> make_cuda_backend(hip_attn::ElementType type);

}  // namespace llama
