/// What tests of device code share.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"

#define REQUIRE_CUDA_DEVICE()                                                        \
  if (const Status device_status = check_device(cuda_device()); !device_status.ok()) \
  HIP_ATTN_SKIP(device_status.message())

namespace hip_attn::test {

inline void require_success(cudaError_t error) {
  INFO(cudaGetErrorString(error));
  REQUIRE(error == cudaSuccess);
}

/// Runs kernel(args...) and waits for it.
template <typename... Params, typename... Args>
void run_kernel(void (*kernel)(Params...), int blocks, int threads, std::size_t shared_bytes,
                const Args&... args) {
  if (shared_bytes > 0) {
    require_success(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  require_success(cudaLaunchKernelEx(&config, kernel, args...));
  require_success(cudaDeviceSynchronize());
}

}  // namespace hip_attn::test
