/// Merging attention over disjoint sets of keys by their log-sum-exp.
#pragma once

#include <optional>

#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn {

template <Element T>
struct MergeStatesArgs {
  TensorView<const T, 4> partial_out;       ///< [parts, total_q, Hq, D]
  TensorView<const float, 3> partial_lse;   ///< [parts, total_q, Hq] natural log
  TensorView<T, 3> out;                     ///< [total_q, Hq, D] written
  std::optional<TensorView<float, 2>> lse;  ///< [total_q, Hq] written
};

/// lse = log sum_i exp(lse_i); out = sum_i exp(lse_i - lse) out_i. In fp32, parts in ascending
/// order. A part with lse -inf counts for nothing, whatever its out holds; all parts so: out = 0,
/// lse = -inf. out and lse have memory of their own. Cost: every element read once.
/// Errors: kNullPointer, kMisalignedPointer, kInvalidStride, kInvalidShape, kUnsupported,
/// kCudaError, kOverlap.
template <Element T>
HIP_ATTN_API Status merge_states(Device device, const MergeStatesArgs<T>& args,
                                 Stream stream = nullptr);

extern template HIP_ATTN_API Status merge_states(Device, const MergeStatesArgs<float>&, Stream);
extern template HIP_ATTN_API Status merge_states(Device, const MergeStatesArgs<float16>&, Stream);
extern template HIP_ATTN_API Status merge_states(Device, const MergeStatesArgs<bfloat16>&, Stream);

}  // namespace hip_attn
