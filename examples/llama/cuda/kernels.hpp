/// The kernels of cuda_backend.cpp, by what Backend calls them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor.hpp"

namespace llama {

/// Elements that a thread loads and stores at once.
inline constexpr std::int64_t kVectorSize = 8;

void launch_gather_rows(const Tensor& table, const std::int32_t* rows, const Tensor& out,
                        cudaStream_t stream);
void launch_rms_norm(const Tensor& x, const Tensor& gain, float eps, const Tensor& y,
                     cudaStream_t stream);
void launch_score_targets(const Tensor& logits, const std::int32_t* targets, double* out,
                          cudaStream_t stream);
void launch_rotary_table(const std::int32_t* positions, const Tensor& frequencies,
                         const Tensor& table, cudaStream_t stream);
void launch_rotate(const Tensor& table, const Tensor& x, cudaStream_t stream);
void launch_swiglu(const Tensor& gate, const Tensor& up, cudaStream_t stream);

}  // namespace llama
