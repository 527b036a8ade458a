/// How a copy is divided over the kernels of a prefill that run beside it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cost/h200.hpp"
#include "hip_attn/cost/prefill.hpp"
#include "hip_attn/cuda/offload/params.hpp"

namespace hip_attn::cuda {

/// A part for each kernel, in the order in which they run.
struct CopyShares {
  StagedPart search{};
  StagedPart attend{};
  StagedPart choose{};
};

/// Seconds of the kernels of some KV heads.
struct StagedKernels {
  double search = 0.;
  double attend = 1.;
  double choose = 0.;  ///< the search of landmarks of later heads

  /// Each kernel's part is as long as the kernel.
  [[nodiscard]] CopyShares shares(bool chooses) const {
    const double chosen_seconds = chooses ? choose : 0.;
    const double all = search + attend + chosen_seconds;
    const auto searched = static_cast<std::int32_t>(kStagedParts * search / all);
    const auto chosen = static_cast<std::int32_t>(kStagedParts * chosen_seconds / all);
    return {.search = {0, searched},
            .attend = {searched, kStagedParts - searched - chosen},
            .choose = {kStagedParts - chosen, chosen}};
  }
};

/// By the cost model: `heads` KV heads of a call of `rows` query rows, the last of a request as
/// long as the plan allows, whose first `landmark_stages` stages choose what is copied. The search
/// takes nothing where the plan has none. Up to 40 microseconds on the host: of more than 16384
/// rows, the last are looked at.
inline StagedKernels staged_kernels(const AttentionPlan& plan, std::int64_t heads,
                                    std::int64_t rows, std::int64_t dense_until,
                                    int landmark_stages) {
  constexpr std::int64_t kMostRows = 16384;
  const AttentionShape& shape = plan.shape;
  const PrefillCall call{.context = shape.max_seq_len,
                         .rows = std::min({rows, shape.max_seq_len, kMostRows}),
                         .num_q_heads = heads * (shape.num_q_heads / shape.num_kv_heads),
                         .num_kv_heads = heads,
                         .head_dim = shape.head_dim,
                         .dense_until = dense_until};
  const PrefillKernels kernels = assumed_prefill_kernels(plan.config, call, kH200.properties);
  const PrefillWork work = prefill_work(plan.config, call, kernels, kH200.properties);
  const double launch = kH200.rates.seconds(work.launch);
  StagedKernels seconds{.attend = kH200.rates.seconds(work.attend)};
  for (int s = 0; s < work.num_stages; ++s) {
    double& of_kernel = s < landmark_stages ? seconds.choose : seconds.search;
    if (of_kernel == 0.) of_kernel = launch;
    of_kernel += kH200.rates.seconds(work.stages[static_cast<std::size_t>(s)]);
  }
  return seconds;
}

}  // namespace hip_attn::cuda
