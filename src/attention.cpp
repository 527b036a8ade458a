// run_prefill and run_decode: the checks of a call, then the backend.
#include "hip_attn/cpu/operators.hpp"
#include "hip_attn/decode.hpp"
#include "hip_attn/operator_checks.hpp"
#include "hip_attn/prefill.hpp"
#include "hip_attn_instantiations.hpp"
#include "openmp_runtime.hpp"
#include "validate.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {
namespace {

template <Element T, StoredFor<T> C>
Status run_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                Workspace workspace, [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(kElementType<C>));
#if HIP_ATTN_HAS_CUDA
  if (plan.shape.device.type == DeviceType::kCuda) {
    HIP_ATTN_RETURN_IF_ERROR(detail::check_call(op, plan, args, workspace));
    return op == Operator::kPrefill ? cuda::run_prefill(plan, args, workspace.data(), stream)
                                    : cuda::run_decode(plan, args, workspace.data(), stream);
  }
#endif
  detail::keep_openmp_loaded();
  return cpu::run_call<cpu::BuiltTraits>(op, plan, args, workspace);
}

template <Element T, StoredFor<T> C>
Status run_part(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                Workspace workspace, ThreadTeam& team, int part) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(kElementType<C>));
  return cpu::run_part<cpu::BuiltTraits>(op, plan, args, workspace, team, part);
}

}  // namespace

template <Element T, StoredFor<T> C>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace,
                   Stream stream) {
  return run_call(Operator::kPrefill, plan, args, workspace, stream);
}

template <Element T, StoredFor<T> C>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace,
                   ThreadTeam& team, int part) {
  return run_part(Operator::kPrefill, plan, args, workspace, team, part);
}

template <Element T, StoredFor<T> C>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace,
                  Stream stream) {
  return run_call(Operator::kDecode, plan, args, workspace, stream);
}

template <Element T, StoredFor<T> C>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace,
                  ThreadTeam& team, int part) {
  return run_part(Operator::kDecode, plan, args, workspace, team, part);
}

#define HIP_ATTN_INSTANTIATE(T, C)                                                                 \
  template Status run_prefill(const AttentionPlan&, const AttentionArgs<T, C>&, Workspace,         \
                              Stream);                                                             \
  template Status run_prefill(const AttentionPlan&, const AttentionArgs<T, C>&, Workspace,         \
                              ThreadTeam&, int);                                                   \
  template Status run_decode(const AttentionPlan&, const AttentionArgs<T, C>&, Workspace, Stream); \
  template Status run_decode(const AttentionPlan&, const AttentionArgs<T, C>&, Workspace,          \
                             ThreadTeam&, int);
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_INSTANTIATE)
#undef HIP_ATTN_INSTANTIATE

}  // namespace hip_attn
