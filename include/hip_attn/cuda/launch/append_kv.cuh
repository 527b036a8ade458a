/// The launch of append_kv.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>

#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/landmarks/append.cuh"
#include "hip_attn/cuda/launch/kv_store.cuh"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/cuda/launch/update_landmarks.cuh"
#include "hip_attn/cuda/offload/append.cuh"
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

/// Kernels stride over what is left of blocks of any kind; their sum is within the limit of a grid.
inline constexpr std::int64_t kMostBlocks = std::int64_t{1} << 29;

template <typename Access>
std::int64_t copy_blocks(const AppendKvParams& append) {
  return std::min(ceil_div(append.num_tokens, Access::kRowsCopied), kMostBlocks);
}

template <int kHeadDim, typename Access, Element T>
AppendWithLandmarksParams<T> params_with_landmarks(const AppendKvArgs<T>& args,
                                                   const AppendKvParams& append) {
  const AppendLandmarks<T>& upkeep = *args.landmarks;
  const std::int64_t batch = upkeep.seq_lens.sizes[0];
  const KvTensors<T> kv = kv_tensors(PagedKv<T>{args.pages, upkeep.block_table});
  AppendWithLandmarksParams<T> params{
      .append = append,
      .landmarks = landmark_params(upkeep.landmarks, LandmarkBlock<T, kHeadDim, Access>::kGroups,
                                   append.num_kv_heads, batch),
      .k = kv.k,
      .map = kv.map,
      .added = {.k = args.k.data,
                .token_stride = args.k.strides[0],
                .head_stride = args.k.strides[1],
                .seq_lens = upkeep.seq_lens.data,
                .cu_seqlens = upkeep.cu_seqlens.data},
      .landmark_blocks = 0,
  };
  const std::int64_t units = (append.num_tokens >> params.landmarks.span_shift) + 2 * batch;
  params.landmark_blocks =
      static_cast<std::int32_t>(std::min(units * append.num_kv_heads, kMostBlocks));
  return params;
}

template <int kHeadDim, typename Access, Element T>
Status append_kv_with_landmarks(Device device, const AppendKvArgs<T>& args,
                                const AppendKvParams& append, Stream stream) {
  const auto params = params_with_landmarks<kHeadDim, Access>(args, append);
  return launch("append_kv", append_kv_with_landmarks_kernel<T, kHeadDim, Access>,
                grid_for(params.landmark_blocks + copy_blocks<Access>(append), 1),
                dim3(kLandmarkThreads), device, stream, params, Start::kEarly);
}

template <int kHeadDim, typename Access, Element T>
Status append_kv_to_store(Device device, const AppendKvArgs<T>& args, bool with_landmarks,
                          const AppendKvParams& append, Stream stream) {
  AppendToStoreParams<T> params{};
  params.with_landmarks.append = append;
  if (with_landmarks) params.with_landmarks = params_with_landmarks<kHeadDim, Access>(args, append);
  params.admit = admit_params<T>(*args.store, args.pages, args.k, args.v);
  params.admit_blocks = static_cast<std::int32_t>(
      std::min(args.store->seq_lens.sizes[0] * append.num_kv_heads, kMostBlocks));
  const std::int64_t blocks =
      params.admit_blocks + params.with_landmarks.landmark_blocks + copy_blocks<Access>(append);
  if (blocks == 0) return {};
  return launch("append_kv", append_to_store_kernel<T, kHeadDim, Access>, grid_for(blocks, 1),
                dim3(kLandmarkThreads), device, stream, params, Start::kEarly);
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
  if (params.num_kv_heads == 0 || params.page_size == 0) return {};
  const bool with_landmarks = params.num_tokens > 0 && args.landmarks &&
                              args.landmarks->landmarks.num_levels > 0 &&
                              args.landmarks->seq_lens.sizes[0] > 0;
  // More rows than steps of decode bring: many chunks are completed, and fewer registers let more
  // blocks copy at once.
  constexpr std::int64_t kMostStepRows = 16;
  if constexpr (!std::same_as<T, float>) {  // for which plan_kv_store makes no store
    if (args.store) {
      return params.num_tokens > kMostStepRows * args.store->seq_lens.sizes[0]
                 ? append_kv_to_store<kHeadDim, ManyChunks>(device, args, with_landmarks, params,
                                                            stream)
                 : append_kv_to_store<kHeadDim, OneChunk>(device, args, with_landmarks, params,
                                                          stream);
    }
  }
  if (params.num_tokens == 0) return {};
  if (with_landmarks) {
    return params.num_tokens > kMostStepRows * args.landmarks->seq_lens.sizes[0]
               ? append_kv_with_landmarks<kHeadDim, ManyChunks>(device, args, params, stream)
               : append_kv_with_landmarks<kHeadDim, OneChunk>(device, args, params, stream);
  }
  constexpr int kRowVectors = kHeadDim / kVectorElements<T>;
  constexpr std::int64_t kWarpThreads = 32;
  constexpr std::int64_t kMaxThreads = 256;
  // A whole number of warps, no more than a token has vectors for.
  const std::int64_t vectors = 2 * params.num_kv_heads * kRowVectors;
  const std::int64_t threads = std::clamp(
      (vectors + kWarpThreads - 1) / kWarpThreads * kWarpThreads, kWarpThreads, kMaxThreads);
  return launch("append_kv", append_kv_kernel<kRowVectors>, grid_for(params.num_tokens, 1),
                dim3(static_cast<unsigned>(threads)), device, stream, params, Start::kEarly);
}

}  // namespace hip_attn::cuda
