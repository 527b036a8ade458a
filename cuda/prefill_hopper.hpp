// Attention of prefill on compute capability 9.0, as the host side of prefill sees it.
#pragma once

#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

// The kernel that takes some number of query rows at once, and how it is launched. Null: not built.
template <typename T>
struct HopperAttend {
  void (*kernel)(PrefillParams<T>) = nullptr;
  int threads;
  int rows;  // query rows of a unit that a thread block takes
  int blocks_per_multiprocessor;
  std::size_t shared_bytes;
};

// The one with blocks of 64, 128 or 256 rows that fits units of `rows` rows best; where rows have
// windows of their own, the one for that. One source per element type and head dim is generated
// from prefill_hopper_kernels.cu.in.
template <typename T, int kHeadDim>
HopperAttend<T> hopper_attend(std::int64_t rows, bool row_windows);

// Readies the kernel on the current device, which is of compute capability 9.0. `available` is
// false when the build does not have it: it takes sm_90a.
template <typename T>
Status prepare_hopper_attend(std::int64_t head_dim, bool& available);

// Attends on the current device. Only after prepare_hopper_attend found the kernels available.
template <typename T>
Status launch_hopper_attend(const PrefillParams<T>& params, std::int64_t head_dim,
                            int multiprocessors, Stream stream);

}  // namespace hip_attn::cuda
