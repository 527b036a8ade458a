// The decode kernels of one element type and head dim; one source file for each is generated from
// decode_kernels.cu.in, so that they compile in parallel.
#pragma once

#include "hip_attn/cuda/decode/params.hpp"

namespace hip_attn::cuda {

template <typename T>
struct DecodeKernels {
  void (*cluster)(DecodeParams<T>);
  void (*cluster_at_once)(DecodeParams<T>);
  void (*grid)(DecodeParams<T>);
};

template <typename T, int kHeadDim>
DecodeKernels<T> decode_kernels();

}  // namespace hip_attn::cuda
