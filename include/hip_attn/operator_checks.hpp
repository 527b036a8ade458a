/// The checks of prefill and decode apart from any backend. The operators begin with them; so do
/// the templates of a backend that a program instantiates for itself (docs/guide/extending.md),
/// which call them for their users.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/checks/call.hpp"
#include "hip_attn/checks/config.hpp"
#include "hip_attn/checks/message.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cpu/selection_cache.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn::detail {

/// What a plan is to be made for.
struct PlanRequest {
  Operator op;
  ElementType type;        ///< of q and out
  ElementType cache_type;  ///< of keys and values
  /// The one head dim that there are kernels for; 0: the caller checks it.
  std::int64_t head_dim = 0;
  /// Rules that the kernels know, numbered as ScanRule.
  int num_rules = kNumBuiltRules;
};

/// What the sink is a multiple of.
inline std::int64_t sink_unit(const HipConfig& config) {
  return config.uses_landmarks() ? config.stages.front().chunk_size : config.block_k();
}

/// Checks config and shape and fills what does not depend on a backend: every field but
/// workspace_bytes, schedule, num_threads and dense_until.
/// Errors: kInvalidConfig, kInvalidShape.
inline Status begin_plan(const PlanRequest& request, const HipConfig& config,
                         const AttentionShape& shape, AttentionPlan& plan) {
  HIP_ATTN_RETURN_IF_ERROR(validate_with_rules(config, request.num_rules));
  HIP_ATTN_RETURN_IF_ERROR(check_shape(shape));
  HIP_ATTN_RETURN_IF_ERROR(check_first_landmarks(config, shape.max_seq_len));
  if (request.head_dim != 0 && shape.head_dim != request.head_dim) {
    return {StatusCode::kInvalidShape, message("shape.head_dim is ", shape.head_dim,
                                               "; the kernels are for ", request.head_dim)};
  }

  const Operator op = request.op;
  AttentionPlan result;
  result.op = op;
  result.type = request.type;
  result.cache_type = request.cache_type;
  result.config = config;
  // Window starts are int32. A longer sink covers every sequence as well when it ends there.
  result.config.sink = std::min(config.sink, kMaxInt32 / sink_unit(config) * sink_unit(config));
  result.shape = shape;
  result.selection_rows = op == Operator::kDecode
                              ? shape.batch
                              : selection_row(shape.total_q, shape.batch, 0, config.block_q);
  const SearchPlan search = make_search_plan(result.config, shape.max_seq_len);
  result.max_selected_blocks = search.max_selected_blocks;
  if (op == Operator::kDecode) {
    result.selection_cache_slot_bytes =
        static_cast<std::size_t>(shape.num_kv_heads) * cpu::CacheEntry::bytes(search);
  }
  plan = result;
  return {};
}

/// Checks a call against its plan: everything that run_prefill and run_decode refuse before a
/// backend starts. workspace_bytes: what the backend needs.
template <Element T, StoredFor<T> C>
Status check_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                  Workspace workspace, std::size_t workspace_bytes) {
  HIP_ATTN_RETURN_IF_ERROR(check_plan(plan, op, kElementType<T>, kElementType<C>));
  HIP_ATTN_RETURN_IF_ERROR(check_args(plan, args));
  HIP_ATTN_RETURN_IF_ERROR(check_workspace(workspace, workspace_bytes));
  return check_overlaps(plan, args, workspace);
}

/// The same where the plan's own workspace_bytes says it.
template <Element T, StoredFor<T> C>
Status check_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                  Workspace workspace) {
  return check_call(op, plan, args, workspace, plan.workspace_bytes);
}

}  // namespace hip_attn::detail
