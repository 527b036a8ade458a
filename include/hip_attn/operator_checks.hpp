/// The checks of prefill and decode apart from any backend, in the compiled library. The operators
/// begin with them; so do the templates of a backend that a program instantiates for itself
/// (docs/guide/extending.md), which call them for their users.
#pragma once

#include "hip_attn/attention.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn::detail {

/// Of ScanRule, in the compiled library.
inline constexpr int kNumBuiltRules = static_cast<int>(ScanRule::kCustom);

/// What a plan is to be made for.
struct PlanRequest {
  Operator op;
  ElementType type;        ///< of q and out
  ElementType cache_type;  ///< of keys and values
  /// The one head dim that there are kernels for; 0: those that the library was built with.
  std::int64_t head_dim = 0;
  /// Rules that the kernels know, numbered as ScanRule.
  int num_rules = kNumBuiltRules;
};

/// validate() for kernels that know rules 0 to num_rules - 1.
Status validate_with_rules(const HipConfig& config, int num_rules);

/// Checks config and shape and fills what does not depend on a backend: every field but
/// workspace_bytes, schedule, num_threads and dense_until.
/// Errors: kInvalidConfig, kInvalidShape, kUnsupported.
HIP_ATTN_API Status begin_plan(const PlanRequest& request, const HipConfig& config,
                               const AttentionShape& shape, AttentionPlan& plan);

/// Checks a call against its plan: everything that run_prefill and run_decode refuse before a
/// backend starts.
template <Element T, StoredFor<T> C>
HIP_ATTN_API Status check_call(Operator op, const AttentionPlan& plan,
                               const AttentionArgs<T, C>& args, Workspace workspace);

#define HIP_ATTN_EXTERN_(T, C)                                                   \
  extern template HIP_ATTN_API Status check_call(Operator, const AttentionPlan&, \
                                                 const AttentionArgs<T, C>&, Workspace);
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_EXTERN_)
#undef HIP_ATTN_EXTERN_

}  // namespace hip_attn::detail
