// The prefill kernels of one element type and head dim; one source file for each is generated from
// prefill_kernels.cu.in, so that they compile in parallel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/prefill_params.hpp"

namespace hip_attn::cuda {

template <typename T>
struct PrefillKernels {
  /// A search and the memory of one of its thread blocks.
  struct Search {
    void (*kernel)(PrefillParams<T>);
    std::size_t (*bytes)(const ScanSize* scans, int num_scans, std::int64_t list_length);
  };
  Search search;               ///< in shared memory
  Search search_in_workspace;  ///< in the workspace
  Search search_hopper;        ///< in shared memory; compute capability 9.0
  int search_threads;
  void (*attend)(PrefillParams<T>);  ///< compute capability 8.0 and newer
  std::size_t attend_shared_bytes;
  int attend_threads;
  int attend_rows;  ///< query rows of a thread block
};

template <typename T, int kHeadDim>
PrefillKernels<T> prefill_kernels();

}  // namespace hip_attn::cuda
