/// Eight elements of any type at once, computed with in float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "check.hpp"
#include "kernels.hpp"

namespace llama {

// hip_attn's element types have the layouts of CUDA's; these are the names with arithmetic.
template <typename T>
struct CudaElement {
  using type = float;
};
template <>
struct CudaElement<hip_attn::float16> {
  using type = __half;
};
template <>
struct CudaElement<hip_attn::bfloat16> {
  using type = __nv_bfloat16;
};

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ T narrow(float x) {
  return static_cast<T>(x);
}

/// In memory: one load or store of 16 bytes, two of float.
template <typename T>
struct alignas(16) Packed {
  T elements[kVectorSize];
};

struct Vector {
  float x[kVectorSize];
};

template <typename T>
__device__ Vector load_vector(const T* from) {
  const auto packed = *reinterpret_cast<const Packed<T>*>(from);
  Vector vector;
#pragma unroll
  for (int i = 0; i < kVectorSize; ++i) vector.x[i] = widen(packed.elements[i]);
  return vector;
}

template <typename T>
__device__ void store_vector(T* to, const Vector& vector) {
  Packed<T> packed;
#pragma unroll
  for (int i = 0; i < kVectorSize; ++i) packed.elements[i] = narrow<T>(vector.x[i]);
  *reinterpret_cast<Packed<T>*>(to) = packed;
}

/// The tensor's elements under CUDA's name for their type.
template <typename T>
typename CudaElement<T>::type* cuda_data(const Tensor& tensor) {
  return reinterpret_cast<typename CudaElement<T>::type*>(tensor.as<T>());
}

/// Launches enough threads of a one-dimensional grid for `count`. No work, no launch.
template <typename... Parameters, typename... Arguments>
void launch_for(std::int64_t count, cudaStream_t stream, void (*kernel)(Parameters...),
                Arguments... arguments) {
  constexpr std::int64_t kThreads = 256;
  const std::int64_t blocks = (count + kThreads - 1) / kThreads;
  if (blocks == 0) return;
  kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(arguments...);
  LLAMA_CUDA_CALL(cudaGetLastError);
}

}  // namespace llama
