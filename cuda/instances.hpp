// What the library compiles of the launchers' templates, once per 16-bit element type and head dim;
// the generated sources define it, one each, so that they compile in parallel.
#pragma once

#include "hip_attn/cuda/launch/operators.hpp"

#define HIP_ATTN_RUN_INSTANCE_(prefix, run, T, kHeadDim, Io)    \
  prefix template Status run<AttentionTraits<T, kHeadDim>, Io>( \
      const AttentionPlan&, const AttentionArgs<Io, T>&, std::byte*, Stream);

// prefix: extern, or nothing to define it.
#define HIP_ATTN_DECODE_INSTANCE(prefix, T, kHeadDim)                               \
  prefix template Status plan_decode<AttentionTraits<T, kHeadDim>>(AttentionPlan&); \
  HIP_ATTN_RUN_INSTANCE_(prefix, run_decode, T, kHeadDim, T)                        \
  HIP_ATTN_RUN_INSTANCE_(prefix, run_decode, T, kHeadDim, float)
#define HIP_ATTN_PREFILL_INSTANCE(prefix, T, kHeadDim)                               \
  prefix template Status plan_prefill<AttentionTraits<T, kHeadDim>>(AttentionPlan&); \
  HIP_ATTN_RUN_INSTANCE_(prefix, run_prefill, T, kHeadDim, T)                        \
  HIP_ATTN_RUN_INSTANCE_(prefix, run_prefill, T, kHeadDim, float)
#define HIP_ATTN_SM90_INSTANCE(T, kHeadDim)                                                        \
  Sm90Attend<AttentionTraits<T, kHeadDim>> sm90_attend<AttentionTraits<T, kHeadDim>>(std::int64_t, \
                                                                                     bool)
