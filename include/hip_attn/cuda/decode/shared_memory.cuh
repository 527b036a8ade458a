/// A block's shared memory, divided as its DecodeLayout says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/layout.cuh"

namespace hip_attn::cuda {

template <typename T>
struct DecodeShared {
  std::byte* slots;  ///< tiles of keys and values; between scans, select's storage
  T* queries;        ///< [padded max_rows][kQueryPitch]
  float2* states;    ///< {max, sum} [rows of a pass][warps that share a row's keys]

  __device__ DecodeShared(std::byte* memory, const DecodeLayout& layout)
      : slots(memory),
        queries(reinterpret_cast<T*>(memory + layout.queries)),
        states(reinterpret_cast<float2*>(memory + layout.states)) {}

  __device__ RegisterSelectStorage& register_select() const {
    return *reinterpret_cast<RegisterSelectStorage*>(slots);
  }
  __device__ SelectStorage<kDecodeThreads>& select() const {
    return *reinterpret_cast<SelectStorage<kDecodeThreads>*>(slots);
  }
  /// [max_rows], behind the storage of both.
  __device__ RowWeight* row_weights() const {
    return reinterpret_cast<RowWeight*>(slots + kSelectBytes);
  }
};

}  // namespace hip_attn::cuda
