// The prefill kernels of one element type and head dim; one source file for each is generated from
// prefill_kernels.cu.in, so that they compile in parallel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/prefill_params.hpp"

namespace hip_attn::cuda {

template <typename T>
struct PrefillKernels {
  void (*search)(PrefillParams<T>);               ///< its memory is shared memory
  void (*search_in_workspace)(PrefillParams<T>);  ///< its memory is of the workspace
  /// Memory of a thread block of either.
  std::size_t (*search_bytes)(std::int64_t max_rows, std::int64_t max_chunks,
                              std::int64_t list_length);
  int search_threads;
  void (*attend)(PrefillParams<T>);  ///< compute capability 8.0 and newer
  std::size_t attend_shared_bytes;
  int attend_threads;
  int attend_rows;  ///< query rows of a thread block
};

template <typename T, int kHeadDim>
PrefillKernels<T> prefill_kernels();

}  // namespace hip_attn::cuda
