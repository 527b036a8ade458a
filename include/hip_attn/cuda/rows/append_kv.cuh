/// Writes new keys and values into the pages of a KV cache.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/rows/vector.cuh"

namespace hip_attn::cuda {

/// Keys or values of one append: rows are copied as 16-byte vectors whatever their element type.
/// Strides count vectors.
struct AppendRows {
  const uint4* from;  ///< [num_tokens, Hk, kRowVectors]
  std::int64_t from_token_stride;
  std::int64_t from_head_stride;
  uint4* to;  ///< [num_pages, page_size, Hk, kRowVectors]
  std::int64_t to_page_stride;
  std::int64_t to_token_stride;
  std::int64_t to_head_stride;
};

struct AppendKvParams {
  AppendRows k;
  AppendRows v;
  const std::int64_t* slot_mapping;  ///< [num_tokens] page * page_size + offset
  std::int64_t slot_stride;
  std::int64_t num_tokens;
  std::int64_t num_pages;
  std::int64_t page_size;
  std::int64_t num_kv_heads;
};

/// A kernel behind this one may start now; it waits for the end of this one where it must.
__device__ inline void launch_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// What block number `block` of so many copies: one token at a time, one thread per vector, K's
/// heads first, then V's. Slots outside the pages are skipped.
template <int kRowVectors>
__device__ void append_rows_of_block(const AppendKvParams& params, int block, int num_blocks) {
  const std::int64_t head_vectors = params.num_kv_heads * kRowVectors;
  for (std::int64_t token = block; token < params.num_tokens; token += num_blocks) {
    const std::int64_t slot = params.slot_mapping[token * params.slot_stride];
    const std::int64_t page = slot / params.page_size;
    if (slot < 0 || page >= params.num_pages) continue;
    const std::int64_t offset = slot - page * params.page_size;
    for (std::int64_t i = threadIdx.x; i < 2 * head_vectors; i += blockDim.x) {
      const bool is_k = i < head_vectors;
      const AppendRows& rows = is_k ? params.k : params.v;
      const std::int64_t within = is_k ? i : i - head_vectors;
      const std::int64_t head = within / kRowVectors;
      const std::int64_t vector = within % kRowVectors;
      rows.to[page * rows.to_page_stride + offset * rows.to_token_stride +
              head * rows.to_head_stride + vector] =
          rows.from[token * rows.from_token_stride + head * rows.from_head_stride + vector];
    }
  }
}

template <int kRowVectors>
__global__ void append_kv_kernel(const AppendKvParams params) {
  launch_dependents();
  append_rows_of_block<kRowVectors>(params, static_cast<int>(blockIdx.x),
                                    static_cast<int>(gridDim.x));
}

}  // namespace hip_attn::cuda
