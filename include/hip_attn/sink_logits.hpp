/// Sink logits, which take a share of the softmax and have no value (gpt-oss).
#pragma once

#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn {

template <Element T>
struct AddSinkLogitsArgs {
  TensorView<const float, 1> sink_logits;  ///< [Hq], natural log; neither scaled nor capped
  TensorView<T, 3> out;      ///< [total_q, Hq, D] of prefill, decode or merge_states, changed
  TensorView<float, 2> lse;  ///< [total_q, Hq] likewise
};

/// Counts a logit per query head into attention that was computed without it: out *= exp(lse - n)
/// and lse = n, where n = log(exp(lse) + exp(sink)). In fp32. A sink of -inf changes nothing; a row
/// with lse -inf gets out 0, whatever it holds, and the sink as its lse. Parts of a sequence are
/// merged first, since a sink counts once. Cost: every element read and written once.
/// Errors: kNullPointer, kMisalignedPointer, kInvalidStride, kInvalidShape, kUnsupported,
/// kCudaError, kOverlap.
template <Element T>
HIP_ATTN_API Status add_sink_logits(Device device, const AddSinkLogitsArgs<T>& args,
                                    Stream stream = nullptr);

#define HIP_ATTN_EXTERN_(T) \
  extern template HIP_ATTN_API Status add_sink_logits(Device, const AddSinkLogitsArgs<T>&, Stream);
HIP_ATTN_EXTERN_(float)
HIP_ATTN_EXTERN_(float16)
HIP_ATTN_EXTERN_(bfloat16)
#undef HIP_ATTN_EXTERN_

}  // namespace hip_attn
