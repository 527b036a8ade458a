// plan_prefill and plan_decode: the checks and sizes that do not depend on a call.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>

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

constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxThreads = 4096;
// Keeps every size below 2^63 for any head dim and number of threads.
constexpr std::int64_t kMaxQueryElements = std::int64_t{1} << 40;

Status check_range(const char* name, std::int64_t value, std::int64_t lowest,
                   std::int64_t highest) {
  if (value >= lowest && value <= highest) return {};
  return {StatusCode::kInvalidShape,
          fmt::format("shape.{} is {}; it must be from {} to {}", name, value, lowest, highest)};
}

Status check_shape(const AttentionShape& shape) {
  HIP_ATTN_RETURN_IF_ERROR(check_range("batch", shape.batch, 0, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("total_q", shape.total_q, 0, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("max_seq_len", shape.max_seq_len, 0, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("num_kv_heads", shape.num_kv_heads, 1, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("num_q_heads", shape.num_q_heads, 1, kMaxInt32));
  HIP_ATTN_RETURN_IF_ERROR(check_range("num_threads", shape.num_threads, 0, kMaxThreads));
  if (shape.num_q_heads % shape.num_kv_heads != 0) {
    return {StatusCode::kInvalidShape,
            fmt::format("shape.num_q_heads is {}; it must be a multiple of num_kv_heads ({})",
                        shape.num_q_heads, shape.num_kv_heads)};
  }
  if (shape.total_q * shape.num_q_heads > kMaxQueryElements) {
    return {StatusCode::kInvalidShape,
            fmt::format("shape.total_q * num_q_heads is {} * {}; it must be at most {}",
                        shape.total_q, shape.num_q_heads, kMaxQueryElements)};
  }
  return {};
}

Status plan_for_backend(AttentionPlan& plan) {
  const Device device = plan.shape.device;
  if (device.type == DeviceType::kCpu) {
    plan.num_threads = plan.shape.num_threads > 0 ? plan.shape.num_threads : cpu::max_threads();
    plan.workspace_bytes = cpu::workspace_bytes(plan);
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
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(cache_type));
  HIP_ATTN_RETURN_IF_ERROR(plan_for_backend(result));
  plan = result;
  return {};
}

}  // namespace

Status detail::begin_plan(const PlanRequest& request, const HipConfig& config,
                          const AttentionShape& shape, AttentionPlan& plan) {
  HIP_ATTN_RETURN_IF_ERROR(validate_with_rules(config, request.num_rules));
  HIP_ATTN_RETURN_IF_ERROR(check_shape(shape));
  if (request.head_dim == 0) {
    HIP_ATTN_RETURN_IF_ERROR(check_head_dim(shape.head_dim));
  } else if (shape.head_dim != request.head_dim) {
    return {StatusCode::kInvalidShape, fmt::format("shape.head_dim is {}; the kernels are for {}",
                                                   shape.head_dim, request.head_dim)};
  }

  const Operator op = request.op;
  AttentionPlan result;
  result.op = op;
  result.type = request.type;
  result.cache_type = request.cache_type;
  result.config = config;
  // Window starts are int32. A longer sink covers every sequence as well when it ends there.
  result.config.sink = std::min(config.sink, kMaxInt32 / config.block_k() * config.block_k());
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
