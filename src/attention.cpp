// run_prefill and run_decode: the checks of a call, then the backend.
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "attention_checks.hpp"
#include "hip_attn/cpu/run.hpp"
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

Status to_status(const cpu::CallError& error, std::int64_t num_pages) {
  using Kind = cpu::CallError::Kind;
  if (!error.found()) return {};
  const std::int64_t value = error.value();
  switch (error.kind()) {
    case Kind::kPage:
      return {StatusCode::kInvalidPage,
              fmt::format("kv.block_table[{}][{}] is {}; pages are 0 to {}", error.request(),
                          error.where(), value, num_pages - 1)};
    case Kind::kSelectionCount:
      return {
          StatusCode::kInvalidSelection,
          fmt::format("selection.counts[{}][{}] is {}; it must be from 0 to selection.blocks' last "
                      "size",
                      error.where(), error.kv_head(), value)};
    case Kind::kSelectionWindow:
      return {
          StatusCode::kInvalidSelection,
          fmt::format("selection.window_start[{}][{}] is {}; it must be config.sink, or above it "
                      "and at most one past the query block's first position",
                      error.where(), error.kv_head(), value)};
    case Kind::kSelectionBlock:
      return {StatusCode::kInvalidSelection,
              fmt::format("selection.blocks[{}][{}] holds {}; blocks must ascend and lie between "
                          "config.sink and window_start",
                          error.where(), error.kv_head(), value)};
    case Kind::kCacheEntry:
      return {
          StatusCode::kInvalidSelection,
          fmt::format("cache slot {}, KV head {} (window start {}) is no selection of this plan; "
                      "zero the memory once and share it only between plans of equal config, heads "
                      "and max_seq_len",
                      error.where(), error.kv_head(), value)};
  }
  return {};
}

template <Element T, StoredFor<T> C>
Status run_on_cpu(const AttentionPlan& plan, const AttentionArgs<T, C>& args, Workspace workspace) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_lengths(plan, args));
  detail::keep_openmp_loaded();
  return to_status(cpu::run_attention(plan, args, workspace.data()), args.kv.pages.num_pages());
}

}  // namespace

template <Element T, StoredFor<T> C>
Status detail::check_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                          Workspace workspace) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_plan(plan, op, kElementType<T>, kElementType<C>));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_args(plan, args));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_workspace(plan, workspace));
  return detail::check_overlaps(args, workspace);
}

namespace {

// By the library's own instances.
template <Element T, StoredFor<T> C>
Status check_built_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                        Workspace workspace) {
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(kElementType<C>));
  return detail::check_call(op, plan, args, workspace);
}

template <Element T, StoredFor<T> C>
Status run_call(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                Workspace workspace, [[maybe_unused]] Stream stream) {
  HIP_ATTN_RETURN_IF_ERROR(check_built_call(op, plan, args, workspace));
#if HIP_ATTN_HAS_CUDA
  if (plan.shape.device.type == DeviceType::kCuda) {
    return op == Operator::kPrefill ? cuda::run_prefill(plan, args, workspace.data(), stream)
                                    : cuda::run_decode(plan, args, workspace.data(), stream);
  }
#endif
  return run_on_cpu(plan, args, workspace);
}

template <Element T, StoredFor<T> C>
Status run_part(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                Workspace workspace, ThreadTeam& team, int part) {
  HIP_ATTN_RETURN_IF_ERROR(check_built_call(op, plan, args, workspace));
  if (plan.shape.device.type != DeviceType::kCpu) {
    return {StatusCode::kUnsupported, "team is given, but plan.shape.device is not the CPU"};
  }
  if (team.size() < 1 || team.size() > plan.num_threads) {
    return {StatusCode::kInvalidShape,
            fmt::format("team.size() is {}; it must be from 1 to plan.num_threads ({})",
                        team.size(), plan.num_threads)};
  }
  if (part < 0 || part >= team.size()) {
    return {StatusCode::kInvalidShape,
            fmt::format("part is {}; it must be from 0 to {} in a team of {}", part,
                        team.size() - 1, team.size())};
  }
  const ThreadTeamPart mine(team, part, [&](void*& shared) -> Status {
    HIP_ATTN_RETURN_IF_ERROR(detail::check_lengths(plan, args));
    shared = &cpu::Call<T, C>::make(plan, args, workspace.data());
    return {};
  });
  if (!mine.status().ok()) return mine.status();
  auto& call = *static_cast<cpu::Call<T, C>*>(mine.call());
  call.work(part);
  return to_status(call.error(), args.kv.pages.num_pages());
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
  template Status detail::check_call(Operator, const AttentionPlan&, const AttentionArgs<T, C>&,   \
                                     Workspace);                                                   \
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
