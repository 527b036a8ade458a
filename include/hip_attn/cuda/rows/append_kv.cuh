/// Writes new keys and values into the pages of a KV cache.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/ptx/dependent_launch.cuh"
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

/// What block number `block` of so many copies: kTokens at once, one thread per vector of each, K's
/// heads first, then V's. Slots outside the pages are skipped.
template <int kRowVectors, int kTokens>
__device__ void append_rows_of_block(const AppendKvParams& params, int block, int num_blocks) {
  const std::int64_t head_vectors = params.num_kv_heads * kRowVectors;
  for (std::int64_t first = block; first < params.num_tokens;
       first += std::int64_t{kTokens} * num_blocks) {
    std::int64_t page[kTokens];  // negative: the row is skipped
    std::int64_t offset[kTokens];
#pragma unroll
    for (int n = 0; n < kTokens; ++n) {
      const std::int64_t token = first + std::int64_t{n} * num_blocks;
      const std::int64_t slot =
          token < params.num_tokens ? params.slot_mapping[token * params.slot_stride] : -1;
      page[n] = slot / params.page_size;
      offset[n] = slot - page[n] * params.page_size;
      if (slot < 0 || page[n] >= params.num_pages) page[n] = -1;
    }
    for (std::int64_t i = threadIdx.x; i < 2 * head_vectors; i += blockDim.x) {
      const bool is_k = i < head_vectors;
      const AppendRows& rows = is_k ? params.k : params.v;
      const std::int64_t within = is_k ? i : i - head_vectors;
      const std::int64_t head = within / kRowVectors;
      const std::int64_t vector = within % kRowVectors;
      uint4 values[kTokens];
#pragma unroll
      for (int n = 0; n < kTokens; ++n) {
        const std::int64_t token = first + std::int64_t{n} * num_blocks;
        if (page[n] < 0) continue;
        values[n] =
            rows.from[token * rows.from_token_stride + head * rows.from_head_stride + vector];
      }
#pragma unroll
      for (int n = 0; n < kTokens; ++n) {
        if (page[n] < 0) continue;
        rows.to[page[n] * rows.to_page_stride + offset[n] * rows.to_token_stride +
                head * rows.to_head_stride + vector] = values[n];
      }
    }
  }
}

template <int kRowVectors>
__global__ void append_kv_kernel(const AppendKvParams params) {
  wait_for_upstream_kernel();
  launch_dependents();
  append_rows_of_block<kRowVectors, 1>(params, static_cast<int>(blockIdx.x),
                                       static_cast<int>(gridDim.x));
}

}  // namespace hip_attn::cuda
