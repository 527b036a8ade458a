/// The launch of make_index_selection.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/cuda/search/index_selection.cuh"
#include "hip_attn/index_selection.hpp"

namespace hip_attn::cuda {

/// Arguments that make_index_selection() has found right, of a plan for CUDA. Lists of up to 2048
/// indices leave a multiprocessor full of thread blocks, those of up to 8192 six of them; longer
/// ones are sorted in global memory.
inline Status enqueue_index_selection(const AttentionPlan& plan, const IndexSelectionArgs& args,
                                      Stream stream) {
  const auto top_k = static_cast<std::uint32_t>(args.indices.sizes[2]);
  const IndexSelectionParams params{
      .indices = args.indices.data,
      .indices_row_stride = args.indices.strides[0],
      .indices_head_stride = args.indices.sizes[1] == 1 ? 0 : args.indices.strides[1],
      .top_k = top_k,
      .num_rows = args.indices.sizes[0],
      .num_kv_heads = plan.shape.num_kv_heads,
      .seq_lens = args.seq_lens.data,
      .cu_seqlens_q = args.cu_seqlens_q.data,
      .batch = static_cast<std::int32_t>(args.seq_lens.sizes[0]),
      .selection = selection_params(args.selection),
      .sink = plan.config.sink,
      .block_shift = shift_of(plan.config.block_k()),
      .is_decode = plan.op == Operator::kDecode,
  };
  const std::int64_t num_units = params.num_rows * params.num_kv_heads;
  if (num_units == 0 || params.batch == 0) return {};
  // A thread for each comparison of a round, as far as that goes.
  const auto threads = static_cast<unsigned>(std::clamp<std::uint64_t>(
      std::bit_ceil(std::uint64_t{top_k}) / 2, 32, kIndexSelectionThreads));
  auto* const kernel = top_k <= 2048   ? index_selection_kernel<2048>
                       : top_k <= 8192 ? index_selection_kernel<8192>
                                       : index_selection_kernel<0>;
  return launch("make_index_selection", kernel, grid_for(num_units, 1), dim3(threads),
                plan.shape.device, stream, params);
}

}  // namespace hip_attn::cuda
