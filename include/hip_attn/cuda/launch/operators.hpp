/// Decode and prefill on CUDA as templates over traits (cuda/traits.hpp): decode.cuh and
/// prefill.cuh define them. The library has them compiled for the traits of every type and head dim
/// that it was built for; a program that needs others includes the definitions in a source for nvcc
/// (docs/guide/extending.md, "Kernels of your own").
#pragma once

#include <cstddef>
#include <string>

#include "hip_attn/attention.hpp"
#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/traits.hpp"
#include "hip_attn/operator_checks.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// Completes a plan that detail::begin_plan() has begun: schedule, workspace, limits. For the
/// device of its shape, whose driver is asked.
template <typename Traits>
Status plan_decode(AttentionPlan& plan);
template <typename Traits>
Status plan_prefill(AttentionPlan& plan);

/// Runs a call whose arguments detail::check_call() has found right. q and out are of T, the type
/// of the products or float. Nothing here allocates or synchronises.
template <typename Traits, Element T>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                  std::byte* workspace, Stream stream);
template <typename Traits, Element T>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                   std::byte* workspace, Stream stream);

/// Names the launcher of kOp alone: whoever includes decode.cuh needs no prefill.cuh.
template <Operator kOp, typename Traits>
Status complete_plan(AttentionPlan& plan) {
  if constexpr (kOp == Operator::kDecode) {
    return plan_decode<Traits>(plan);
  } else {
    return plan_prefill<Traits>(plan);
  }
}

template <Operator kOp, typename Traits, Element T>
Status plan_with(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  if (shape.device.type != DeviceType::kCuda) {
    return {StatusCode::kUnsupported, "shape.device is the CPU; these kernels are for CUDA"};
  }
  AttentionPlan result;
  Status status = detail::begin_plan({.op = kOp,
                                      .type = kElementType<T>,
                                      .cache_type = kElementType<StoredOf<Traits>>,
                                      .head_dim = Traits::kHeadDim,
                                      .num_rules = Traits::Rules::kCount},
                                     config, shape, result);
  if (!status.ok()) return status;
  Status completed = complete_plan<kOp, Traits>(result);
  if (completed.ok()) plan = result;
  return completed;
}

/// hip_attn::plan_decode and plan_prefill for a CUDA device and kernels of these traits; q and out
/// are of T. Checks and errors are the same.
template <typename Traits, Element T = typename Traits::Element>
Status plan_decode(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  return plan_with<Operator::kDecode, Traits, T>(config, shape, plan);
}
template <typename Traits, Element T = typename Traits::Element>
Status plan_prefill(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  return plan_with<Operator::kPrefill, Traits, T>(config, shape, plan);
}

/// hip_attn::run_decode and run_prefill by kernels of these traits, with a plan made for them.
template <typename Traits, Element T>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                  Workspace workspace, Stream stream = nullptr) {
  Status status = detail::check_call(Operator::kDecode, plan, args, workspace);
  return status.ok() ? run_decode<Traits>(plan, args, workspace.data(), stream) : status;
}
template <typename Traits, Element T>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                   Workspace workspace, Stream stream = nullptr) {
  Status status = detail::check_call(Operator::kPrefill, plan, args, workspace);
  return status.ok() ? run_prefill<Traits>(plan, args, workspace.data(), stream) : status;
}

}  // namespace hip_attn::cuda
