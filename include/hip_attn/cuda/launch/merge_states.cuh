/// The launch of merge_states.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attend/merge_states.cuh"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/merge.hpp"

namespace hip_attn::cuda {

/// Arguments that merge_states() has found right, for rows of kHeadDim elements.
template <int kHeadDim, Element T>
Status merge_states(Device device, const MergeStatesArgs<T>& args, Stream stream) {
  const MergeParams<T> params{
      .partial_out = args.partial_out.data,
      .partial_out_part_stride = args.partial_out.strides[0],
      .partial_out_row_stride = args.partial_out.strides[1],
      .partial_out_head_stride = args.partial_out.strides[2],
      .partial_lse = args.partial_lse.data,
      .partial_lse_part_stride = args.partial_lse.strides[0],
      .partial_lse_row_stride = args.partial_lse.strides[1],
      .out = args.out.data,
      .out_row_stride = args.out.strides[0],
      .out_head_stride = args.out.strides[1],
      .lse = args.lse ? args.lse->data : nullptr,
      .lse_row_stride = args.lse ? args.lse->strides[0] : 0,
      .parts = args.partial_out.sizes[0],
      .total_q = args.out.sizes[0],
      .num_q_heads = args.out.sizes[1],
  };
  const std::int64_t num_rows = params.total_q * params.num_q_heads;
  if (num_rows == 0) return {};
  return launch("merge_states", merge_kernel<T, kHeadDim>,
                grid_for(num_rows, kMergeRowsPerBlock<T, kHeadDim>), dim3(kMergeThreads), device,
                stream, params);
}

}  // namespace hip_attn::cuda
