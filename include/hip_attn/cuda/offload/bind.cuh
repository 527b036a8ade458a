/// Gives rows of a store's table to requests.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/offload/params.hpp"

namespace hip_attn::cuda {

inline constexpr int kBindThreads = 256;

/// One thread block for each request and KV head, in x and y.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) bind_kernel(const __grid_constant__ BindParams params) {
  const KvStoreParams& store = params.store;
  const KvStoreLayout& layout = store.layout;
  const int kv_head = static_cast<int>(blockIdx.x);
  for (int request = static_cast<int>(blockIdx.y); request < params.batch;
       request += static_cast<int>(gridDim.y)) {
    const std::int32_t row = store.rows ? store.rows[request] : request;
    if (row < 0 || row >= store.num_rows) continue;
    const std::int64_t unit = std::int64_t{row} * store.num_kv_heads + kv_head;
    const std::int64_t blocks =
        (std::int64_t{max(params.seq_lens[request], 0)} + kKvBlockTokens - 1) >> kKvBlockShift;
    std::int32_t* const table = layout.table + unit * layout.columns;
    const std::int32_t* const homes = params.block_table + request * params.table_row_stride;
    for (std::int64_t c = threadIdx.x; c < layout.columns; c += kThreads) {
      table[c] = c < blocks && c < params.table_columns ? store.far_page(homes[c], kv_head) : -1;
    }
    for (std::int64_t s = threadIdx.x; s < layout.slots; s += kThreads) {
      layout.owners[unit * layout.slots + s] = {-1, -1, 0};
    }
    if (threadIdx.x == 0) layout.unit[unit] = {0, 0, 0};
  }
}

}  // namespace hip_attn::cuda
