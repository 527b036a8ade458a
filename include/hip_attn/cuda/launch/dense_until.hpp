/// Where prefill on CUDA attends to every key: the cost model's choice.
#pragma once

#include <cstdint>

#include "hip_attn/config.hpp"
#include "hip_attn/cost/dense_until.hpp"
#include "hip_attn/cost/h200.hpp"

namespace hip_attn::cuda {

/// By the rates of an H200 at head dim 128 on every GPU and for every head dim, so that a prompt
/// selects the same blocks wherever it runs. Only ratios of times matter here.
inline std::int64_t dense_until(const HipConfig& config, std::int64_t num_q_heads,
                                std::int64_t num_kv_heads, std::int64_t max_seq_len) {
  const PrefillCall call{.context = max_seq_len,
                         .rows = max_seq_len,
                         .num_q_heads = num_q_heads,
                         .num_kv_heads = num_kv_heads,
                         .head_dim = 128};
  const PrefillKernels kernels = assumed_prefill_kernels(config, call, kH200.properties);
  return hip_attn::dense_until(config, call, kernels, kH200);
}

}  // namespace hip_attn::cuda
