/// How a copy is divided over the kernels of a prefill that run beside it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hip_attn/attention.hpp"
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

/// Seconds of the kernels of some KV heads. Where nothing is searched: attention alone.
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

/// Of a prefill that stages blocks, by the cost model: a request as long as the plan allows, whose
/// stages of landmarks choose what is copied. How many rows and KV heads a call has makes little
/// difference to the shares. At most some milliseconds, for a million rows.
inline StagedKernels staged_kernels(const AttentionPlan& plan) {
  const AttentionShape& shape = plan.shape;
  const std::int64_t context = std::max<std::int64_t>(shape.max_seq_len, 1);
  const PrefillCall call{.context = context,
                         .rows = std::clamp<std::int64_t>(shape.total_q, 1, context),
                         .num_q_heads = shape.num_q_heads,
                         .num_kv_heads = shape.num_kv_heads,
                         .head_dim = shape.head_dim,
                         .dense_until = plan.dense_until};
  const PrefillKernels kernels = assumed_prefill_kernels(plan.config, call, kH200.properties);
  const PrefillWork work = prefill_work(plan.config, call, kernels, kH200.properties);
  const double launch = kH200.rates.seconds(work.launch);
  StagedKernels seconds{.attend = kH200.rates.seconds(work.attend)};
  for (int s = 0; s < work.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    const bool chooses = plan.config.stages[at].rule == ScanRule::kLandmark;
    double& of_kernel = chooses ? seconds.choose : seconds.search;
    if (of_kernel == 0.) of_kernel = launch;
    of_kernel += kH200.rates.seconds(work.stages[at]);
  }
  return seconds;
}

}  // namespace hip_attn::cuda
