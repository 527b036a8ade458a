/// Prefill and decode on the CPU as templates over traits (traits.hpp). The library has them
/// compiled for BuiltTraits. A program that has another head dim or rules of its own, or that links
/// no library, includes this header and names PortableTraits, or traits of its own with faster
/// kernels (docs/guide/extending.md, "Kernels of your own").
///
/// Checks and errors are those of the library. A source that is compiled with OpenMP runs calls on
/// its threads, others on the caller's alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/checks/call.hpp"
#include "hip_attn/checks/message.hpp"
#include "hip_attn/cpu/call_error.hpp"
#include "hip_attn/cpu/run.hpp"
#include "hip_attn/cpu/traits.hpp"
#include "hip_attn/operator_checks.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/threads.hpp"

namespace hip_attn::cpu {

/// What a call with these arguments met, in words.
template <Element T, StoredFor<T> C>
Status to_status(const CallError& error, const AttentionArgs<T, C>& args) {
  using Kind = CallError::Kind;
  if (!error.found()) return {};
  const std::int64_t value = error.value();
  switch (error.kind()) {
    case Kind::kPage:
      return {StatusCode::kInvalidPage,
              detail::message("kv.block_table[", error.request(), "][", error.where(), "] is ",
                              value, "; pages are 0 to ", args.kv.pages.num_pages() - 1)};
    case Kind::kLandmarkPage:
      return {StatusCode::kInvalidPage,
              detail::message(
                  "landmarks.levels[", error.level(), "].block_table[", error.request(), "][",
                  error.where(), "] is ", value, "; pages are 0 to ",
                  args.landmarks->levels[static_cast<std::size_t>(error.level())].num_pages() - 1)};
    case Kind::kSelectionCount:
      return {StatusCode::kInvalidSelection,
              detail::message("selection.counts[", error.where(), "][", error.kv_head(), "] is ",
                              value, "; it must be from 0 to selection.blocks' last size")};
    case Kind::kSelectionWindow:
      return {StatusCode::kInvalidSelection,
              detail::message("selection.window_start[", error.where(), "][", error.kv_head(),
                              "] is ", value,
                              "; it must be config.sink, or above it and at most one past the "
                              "query block's first position")};
    case Kind::kSelectionBlock:
      return {StatusCode::kInvalidSelection,
              detail::message("selection.blocks[", error.where(), "][", error.kv_head(), "] holds ",
                              value,
                              "; blocks must ascend and lie between config.sink and window_start")};
    case Kind::kCacheEntry:
      return {StatusCode::kInvalidSelection,
              detail::message("cache slot ", error.where(), ", KV head ", error.kv_head(),
                              " (window start ", value,
                              ") is no selection of this plan; zero the memory once and share it "
                              "only between plans of equal config, heads and max_seq_len")};
  }
  return {};
}

/// Whether a plan is one for the CPU and for these traits.
template <typename Traits>
Status check_traits(const AttentionPlan& plan) {
  if (plan.shape.device.type != DeviceType::kCpu) {
    return {StatusCode::kUnsupported, "shape.device is CUDA; these kernels are for the CPU"};
  }
  if constexpr (requires { Traits::kHeadDim; }) {
    HIP_ATTN_RETURN_IF_ERROR(detail::check_size("plan.shape.head_dim", plan.shape.head_dim,
                                                "that of the kernels", Traits::kHeadDim));
  }
  for (const ScanStage& stage : plan.config.stages) {
    if (static_cast<int>(stage.rule) < Traits::Rules::kCount) continue;
    return {StatusCode::kInvalidConfig,
            detail::message("plan.config has a stage of rule ", static_cast<int>(stage.rule),
                            "; the kernels have rules 0 to ", Traits::Rules::kCount - 1)};
  }
  return {};
}

/// What is refused before any thread begins, but for what lies in arrays.
template <Element T, StoredFor<T> C>
Status check_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                  Workspace workspace) {
  // The plan's threads may have been lowered since it was made.
  return detail::check_call(op, plan, args, workspace, workspace_bytes(plan));
}

// run.hpp says why.
inline namespace HIP_ATTN_OPENMP_NAMESPACE {

template <typename Traits, Element T, StoredFor<T> C>
Status plan_with(Operator op, const HipConfig& config, const AttentionShape& shape,
                 AttentionPlan& plan) {
  AttentionPlan result;
  HIP_ATTN_RETURN_IF_ERROR(detail::begin_plan({.op = op,
                                               .type = kElementType<T>,
                                               .cache_type = kElementType<C>,
                                               .head_dim = Traits::kHeadDim,
                                               .num_rules = Traits::Rules::kCount},
                                              config, shape, result));
  HIP_ATTN_RETURN_IF_ERROR(check_traits<Traits>(result));
  finish_plan(result);
  plan = result;
  return {};
}

template <typename Traits, Element T, StoredFor<T> C>
Status run_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                Workspace workspace) {
  HIP_ATTN_RETURN_IF_ERROR(check_call(op, plan, args, workspace));
  HIP_ATTN_RETURN_IF_ERROR(check_traits<Traits>(plan));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_lengths(plan, args));
  return to_status(run_attention<Traits>(plan, args, workspace.data()), args);
}

/// One part of a team.
template <typename Traits, Element T, StoredFor<T> C>
Status run_part(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                Workspace workspace, ThreadTeam& team, int part) {
  HIP_ATTN_RETURN_IF_ERROR(check_call(op, plan, args, workspace));
  if (plan.shape.device.type != DeviceType::kCpu) {
    return {StatusCode::kUnsupported, "team is given, but plan.shape.device is not the CPU"};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_traits<Traits>(plan));
  if (team.size() < 1 || team.size() > plan.num_threads) {
    return {StatusCode::kInvalidShape,
            detail::message("team.size() is ", team.size(),
                            "; it must be from 1 to plan.num_threads (", plan.num_threads, ")")};
  }
  if (part < 0 || part >= team.size()) {
    return {StatusCode::kInvalidShape,
            detail::message("part is ", part, "; it must be from 0 to ", team.size() - 1,
                            " in a team of ", team.size())};
  }
  const ThreadTeamPart mine(team, part, [&](void*& shared) -> Status {
    HIP_ATTN_RETURN_IF_ERROR(detail::check_lengths(plan, args));
    shared = &Call<Traits, T, C>::make(plan, args, workspace.data());
    return {};
  });
  if (!mine.status().ok()) return mine.status();
  auto& call = *static_cast<Call<Traits, T, C>*>(mine.call());
  call.work(part);
  return to_status(call.error(), args);
}

/// hip_attn::plan_prefill and plan_decode for kernels of these traits.
template <typename Traits, Element T, StoredFor<T> C = T>
Status plan_prefill(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  return plan_with<Traits, T, C>(Operator::kPrefill, config, shape, plan);
}
template <typename Traits, Element T, StoredFor<T> C = T>
Status plan_decode(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  return plan_with<Traits, T, C>(Operator::kDecode, config, shape, plan);
}

/// hip_attn::run_prefill and run_decode by kernels of these traits, with a plan made for them.
template <typename Traits, Element T, StoredFor<T> C>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                   Workspace workspace) {
  return run_call<Traits>(Operator::kPrefill, plan, args, workspace);
}
template <typename Traits, Element T, StoredFor<T> C>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace,
                   ThreadTeam& team, int part) {
  return run_part<Traits>(Operator::kPrefill, plan, args, workspace, team, part);
}
template <typename Traits, Element T, StoredFor<T> C>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace) {
  return run_call<Traits>(Operator::kDecode, plan, args, workspace);
}
template <typename Traits, Element T, StoredFor<T> C>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace,
                  ThreadTeam& team, int part) {
  return run_part<Traits>(Operator::kDecode, plan, args, workspace, team, part);
}

}  // namespace HIP_ATTN_OPENMP_NAMESPACE
}  // namespace hip_attn::cpu
