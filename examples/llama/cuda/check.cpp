#include "check.hpp"

#include <fmt/format.h>

#include "error.hpp"
#include "kernels.hpp"

namespace llama {
namespace {

[[noreturn]] void fail(const char* what, const char* why) {
  throw Error(ErrorCode::kCuda, fmt::format("{}: {}", what, why));
}

}  // namespace

void check_cuda_call(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // so that the next call does not report it again
  fail(what, cudaGetErrorString(error));
}

void check_cublas_call(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(what, cublasGetStatusString(status));
}

void check_row_size(std::int64_t size) {
  if (size % kVectorSize == 0) return;
  throw Error(
      ErrorCode::kUnsupportedModel,
      fmt::format("rows of {} elements (hidden_size, intermediate_size); on a GPU they are a "
                  "multiple of {}",
                  size, kVectorSize));
}

}  // namespace llama
