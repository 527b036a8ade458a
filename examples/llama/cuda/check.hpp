/// CUDA's and cuBLAS's errors as ours.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace llama {

/// Throws kCuda unless the call succeeded; `what` names it.
void check_cuda_call(cudaError_t error, const char* what);
void check_cublas_call(cublasStatus_t status, const char* what);

/// Throws kUnsupportedModel unless the kernels can work on rows of so many elements.
void check_row_size(std::int64_t size);

}  // namespace llama

#define LLAMA_CUDA_CALL(function, ...) ::llama::check_cuda_call(function(__VA_ARGS__), #function)
#define LLAMA_CUBLAS_CALL(function, ...) \
  ::llama::check_cublas_call(function(__VA_ARGS__), #function)
