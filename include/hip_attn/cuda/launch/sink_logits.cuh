/// The launch of add_sink_logits.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attend/sink_logits.cuh"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/sink_logits.hpp"

namespace hip_attn::cuda {

/// Arguments that add_sink_logits() has found right, for rows of kHeadDim elements.
template <int kHeadDim, Element T>
Status add_sink_logits(Device device, const AddSinkLogitsArgs<T>& args, Stream stream) {
  const SinkLogitsParams<T> params{
      .sink_logits = args.sink_logits.data,
      .out = args.out.data,
      .out_row_stride = args.out.strides[0],
      .out_head_stride = args.out.strides[1],
      .lse = args.lse.data,
      .lse_row_stride = args.lse.strides[0],
      .total_q = args.out.sizes[0],
      .num_q_heads = args.out.sizes[1],
  };
  const std::int64_t num_rows = params.total_q * params.num_q_heads;
  if (num_rows == 0) return {};
  return launch("add_sink_logits", sink_logits_kernel<T, kHeadDim>,
                grid_for(num_rows, kSinkLogitsRowsPerBlock<T, kHeadDim>), dim3(kSinkLogitsThreads),
                device, stream, params);
}

}  // namespace hip_attn::cuda
