/// The launch of append_kv.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/rows/append_kv.cuh"
#include "hip_attn/kv.hpp"

namespace hip_attn::cuda {

template <Element T>
AppendRows append_rows(const TensorView<const T, 3>& from, const TensorView<T, 4>& to) {
  constexpr std::int64_t kElements = kVectorElements<T>;
  return {
      .from = reinterpret_cast<const uint4*>(from.data),
      .from_token_stride = from.strides[0] / kElements,
      .from_head_stride = from.strides[1] / kElements,
      .to = reinterpret_cast<uint4*>(to.data),
      .to_page_stride = to.strides[0] / kElements,
      .to_token_stride = to.strides[1] / kElements,
      .to_head_stride = to.strides[2] / kElements,
  };
}

/// Arguments that append_kv() has found right, for rows of kHeadDim elements.
template <int kHeadDim, Element T>
Status append_kv(Device device, const AppendKvArgs<T>& args, Stream stream) {
  const AppendKvParams params{
      .k = append_rows<T>(args.k, args.pages.k),
      .v = append_rows<T>(args.v, args.pages.v),
      .slot_mapping = args.slot_mapping.data,
      .slot_stride = args.slot_mapping.strides[0],
      .num_tokens = args.k.sizes[0],
      .num_pages = args.pages.num_pages(),
      .page_size = args.pages.page_size(),
      .num_kv_heads = args.k.sizes[1],
  };
  if (params.num_tokens == 0 || params.num_kv_heads == 0 || params.page_size == 0) return {};
  constexpr int kRowVectors = kHeadDim / kVectorElements<T>;
  constexpr std::int64_t kWarpThreads = 32;
  constexpr std::int64_t kMaxThreads = 256;
  // A whole number of warps, no more than a token has vectors for.
  const std::int64_t vectors = 2 * params.num_kv_heads * kRowVectors;
  const std::int64_t threads = std::clamp(
      (vectors + kWarpThreads - 1) / kWarpThreads * kWarpThreads, kWarpThreads, kMaxThreads);
  return launch("append_kv", append_kv_kernel<kRowVectors>, grid_for(params.num_tokens, 1),
                dim3(static_cast<unsigned>(threads)), device, stream, params);
}

}  // namespace hip_attn::cuda
