/// Rows of q and out, which may be floats where the cache is of 16 bits: q is rounded to the type
/// of the products as it is read, out is written as it was summed.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"

namespace hip_attn::cuda {

template <typename Element>
__device__ const Element* elements_at(const QueryTensor& rows, std::int64_t offset) {
  return static_cast<const Element*>(rows.data) + offset;
}
template <typename Element>
__device__ Element* elements_at(const OutTensor& rows, std::int64_t offset) {
  return static_cast<Element*>(rows.data) + offset;
}

/// The eight floats from `offset` on, rounded.
template <typename Element>
__device__ uint4 read_float_queries(const QueryTensor& q, std::int64_t offset) {
  const auto* from = reinterpret_cast<const float4*>(elements_at<float>(q, offset));
  const float4 low = __ldg(from);
  const float4 high = __ldg(from + 1);
  return {narrow_pair<Element>(low.x, low.y), narrow_pair<Element>(low.z, low.w),
          narrow_pair<Element>(high.x, high.y), narrow_pair<Element>(high.z, high.w)};
}

/// Eight elements of q from `offset` on, which is a multiple of eight, and which are read once.
template <typename Element>
__device__ uint4 read_queries_once(const QueryTensor& q, std::int64_t offset) {
  if (q.is_float) [[unlikely]]
    return read_float_queries<Element>(q, offset);
  return read_streaming_16(elements_at<Element>(q, offset));
}

/// Starts to copy the same to shared memory: floats are there at once.
template <typename Element>
__device__ void copy_queries_async(std::uint32_t to, const QueryTensor& q, std::int64_t offset) {
  if (q.is_float) [[unlikely]] {
    store_shared_16(to, read_float_queries<Element>(q, offset));
  } else {
    copy_async_16(to, elements_at<Element>(q, offset));
  }
}

/// One element of q as products see it. kFloatRows: q may be floats.
template <typename Element, bool kFloatRows>
__device__ float query_element(const QueryTensor& q, std::int64_t offset) {
  if (kFloatRows && q.is_float) [[unlikely]]
    return widen(narrow<Element>(*elements_at<float>(q, offset)));
  return widen(*elements_at<Element>(q, offset));
}

/// Writes neighbouring elements of out from `offset` on.
template <typename Element>
__device__ void write_out(const OutTensor& out, std::int64_t offset, float value) {
  if (out.is_float) [[unlikely]] {
    *elements_at<float>(out, offset) = value;
  } else {
    *elements_at<Element>(out, offset) = narrow<Element>(value);
  }
}
template <typename Element>
__device__ void write_out(const OutTensor& out, std::int64_t offset, float2 values) {
  if (out.is_float) [[unlikely]] {
    *reinterpret_cast<float2*>(elements_at<float>(out, offset)) = values;
  } else {
    *reinterpret_cast<std::uint32_t*>(elements_at<Element>(out, offset)) =
        narrow_pair<Element>(values.x, values.y);
  }
}

}  // namespace hip_attn::cuda
