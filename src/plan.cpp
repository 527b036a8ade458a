// plan_prefill and plan_decode: the checks and sizes that do not depend on a call.
#include "hip_attn/build_info.hpp"
#include "hip_attn/cpu/run.hpp"
#include "hip_attn/decode.hpp"
#include "hip_attn/operator_checks.hpp"
#include "hip_attn/prefill.hpp"
#include "hip_attn_instantiations.hpp"
#include "validate.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {
namespace {

Status plan_for_backend(AttentionPlan& plan) {
  const Device device = plan.shape.device;
  if (device.type == DeviceType::kCpu) {
    cpu::finish_plan(plan);
    return {};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return plan.op == Operator::kDecode ? cuda::plan_decode(plan) : cuda::plan_prefill(plan);
#else
  return {StatusCode::kUnsupported, "this build has no CUDA"};  // said by check_device
#endif
}

Status make_plan(Operator op, ElementType type, ElementType cache_type, const HipConfig& config,
                 const AttentionShape& shape, AttentionPlan& plan) {
  AttentionPlan result;
  HIP_ATTN_RETURN_IF_ERROR(detail::begin_plan({.op = op, .type = type, .cache_type = cache_type},
                                              config, shape, result));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_head_dim(shape.head_dim));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(cache_type));
  HIP_ATTN_RETURN_IF_ERROR(plan_for_backend(result));
  plan = result;
  return {};
}

}  // namespace

template <Element T, StoredFor<T> C>
Status plan_prefill(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  return make_plan(Operator::kPrefill, kElementType<T>, kElementType<C>, config, shape, plan);
}

template <Element T, StoredFor<T> C>
Status plan_decode(const HipConfig& config, const AttentionShape& shape, AttentionPlan& plan) {
  return make_plan(Operator::kDecode, kElementType<T>, kElementType<C>, config, shape, plan);
}

#define HIP_ATTN_INSTANTIATE(T, C)                                                             \
  template Status plan_prefill<T, C>(const HipConfig&, const AttentionShape&, AttentionPlan&); \
  template Status plan_decode<T, C>(const HipConfig&, const AttentionShape&, AttentionPlan&);
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_INSTANTIATE)
#undef HIP_ATTN_INSTANTIATE

}  // namespace hip_attn
