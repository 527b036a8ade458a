// KvStore: plans, checks, and the way to the backend.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "hip_attn/build_info.hpp"
#include "hip_attn/checks/store.hpp"
#include "hip_attn/offload.hpp"
#include "hip_attn/operator_checks.hpp"
#include "hip_attn_instantiations.hpp"
#include "validate.hpp"

#if HIP_ATTN_HAS_CUDA
#include "cuda_backend.hpp"
#endif

namespace hip_attn {
namespace {

// Checks a config and a shape as a plan of decode does, and gives the config that such a plan has.
Status check_shape(const HipConfig& config, const KvStoreShape& shape, HipConfig& planned) {
  if (shape.max_requests < 1 || shape.max_requests > 65535) {
    return {
        StatusCode::kInvalidShape,
        fmt::format("shape.max_requests is {}; it must be from 1 to 65535", shape.max_requests)};
  }
  const AttentionShape of_decode{shape.device,      shape.max_requests, shape.max_requests,
                                 shape.max_seq_len, shape.num_kv_heads, shape.num_kv_heads,
                                 shape.head_dim};
  AttentionPlan decode;
  HIP_ATTN_RETURN_IF_ERROR(
      detail::begin_plan({.op = Operator::kDecode, .type = shape.type, .cache_type = shape.type},
                         config, of_decode, decode));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_head_dim(shape.head_dim));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_element_type(shape.type));
  HIP_ATTN_RETURN_IF_ERROR(check_device(shape.device));
  if (shape.device.type == DeviceType::kCuda && shape.type == ElementType::kFloat32) {
    return {StatusCode::kUnsupported,
            "shape.type is float; a store on CUDA takes caches of float16 and bfloat16"};
  }
  planned = decode.config;
  return {};
}

// Blocks of a unit that one step reads, and that come until the first stage runs again.
std::int64_t blocks_of_a_step(const HipConfig& config, const KvStoreShape& shape) {
  const std::int64_t columns = ceil_div(shape.max_seq_len, kKvBlockTokens);
  if (config.is_dense()) return std::max<std::int64_t>(columns, 1);
  const std::int64_t steps = config.refresh_interval.empty() ? 1 : config.refresh_interval.front();
  std::int64_t blocks = ceil_div(std::min(config.sink, shape.max_seq_len), kKvBlockTokens) +
                        ceil_div(std::min(config.window, shape.max_seq_len) + config.block_k() +
                                     steps * kMaxDecodeRows,
                                 kKvBlockTokens) +
                        2;
  if (!config.is_window_only()) {
    const int s = std::max(config.num_stages() - 2, 0);
    blocks += ceil_div(std::min(config.stage(s).keep, shape.max_seq_len), kKvBlockTokens);
  }
  return std::clamp<std::int64_t>(blocks, 1, std::max<std::int64_t>(columns, 1));
}

std::size_t bytes_with(KvStorePlan plan, std::int64_t slots) {
  plan.slots = slots;
  std::size_t bytes = 0;
  kv_store_layout(plan, nullptr, &bytes);
  return bytes;
}

}  // namespace

Status plan_kv_store(const HipConfig& config, const KvStoreShape& shape, std::size_t budget_bytes,
                     KvStorePlan& plan) {
  HipConfig planned;
  HIP_ATTN_RETURN_IF_ERROR(check_shape(config, shape, planned));
  KvStorePlan result;
  result.shape = shape;
  result.search = make_search_plan(planned, shape.max_seq_len);
  if (shape.device.type == DeviceType::kCpu) {
    result.least_budget = 1;
    plan = result;
    return {};
  }
  const std::int64_t columns =
      std::max<std::int64_t>(1, ceil_div(shape.max_seq_len, kKvBlockTokens));
  const std::int64_t least = blocks_of_a_step(planned, shape);
  result.least_budget = bytes_with(result, least);
  if (budget_bytes < result.least_budget) {
    return {StatusCode::kBudgetTooSmall,
            fmt::format("budget_bytes is {}; what one step of {} requests reads, and the table of "
                        "their {} tokens, takes {}",
                        budget_bytes, shape.max_requests, shape.max_seq_len, result.least_budget)};
  }
  // The most slots that the budget holds.
  std::int64_t below = columns + 1;
  result.slots = least;
  while (result.slots + 1 < below) {
    const std::int64_t middle = result.slots + (below - result.slots) / 2;
    (bytes_with(result, middle) <= budget_bytes ? result.slots : below) = middle;
  }
  result.memory_bytes = bytes_with(result, result.slots);
  const std::int64_t pages = shape.max_requests * shape.num_kv_heads * result.slots;
  if (pages > detail::kMaxInt32 / 2) {
    return {StatusCode::kInvalidShape,
            fmt::format("budget_bytes is {}, which makes {} slots; a store has at most {}",
                        budget_bytes, pages, detail::kMaxInt32 / 2)};
  }
  plan = result;
  return {};
}

Status clear_kv_store(const KvStore& store, [[maybe_unused]] Stream stream) {
  const Device device = store.plan ? store.plan->shape.device : kCpu;
  HIP_ATTN_RETURN_IF_ERROR(detail::check_store({store.plan, store.memory, {}}, device, 0));
  if (device.type == DeviceType::kCpu) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::clear_store(store, stream);
#else
  return {};
#endif
}

Status bind_kv_store(const BindKvStoreArgs& args, [[maybe_unused]] Stream stream) {
  const std::int64_t batch = args.seq_lens.sizes[0];
  const Device device = args.store.plan ? args.store.plan->shape.device : kCpu;
  HIP_ATTN_RETURN_IF_ERROR(detail::check_store(args.store, device, batch));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_array("seq_lens", args.seq_lens));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_array("block_table", args.block_table));
  HIP_ATTN_RETURN_IF_ERROR(detail::check_size("block_table.sizes[0]", args.block_table.sizes[0],
                                              "size of seq_lens", batch));
  if (args.num_home_blocks < 0) {
    return {StatusCode::kInvalidShape,
            fmt::format("num_home_blocks is {}; it must not be negative", args.num_home_blocks)};
  }
  if (device.type == DeviceType::kCpu) return {};
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  return cuda::bind_store(args, stream);
#else
  return {};
#endif
}

Status read_kv_store_counters(const KvStore& store, KvStoreCounters& counters,
                              [[maybe_unused]] Stream stream) {
  const Device device = store.plan ? store.plan->shape.device : kCpu;
  HIP_ATTN_RETURN_IF_ERROR(detail::check_store({store.plan, store.memory, {}}, device, 0));
  if (device.type == DeviceType::kCpu) {
    counters = {};
    return {};
  }
  HIP_ATTN_RETURN_IF_ERROR(check_device(device));
#if HIP_ATTN_HAS_CUDA
  std::uint64_t counts[kKvCounts] = {};
  HIP_ATTN_RETURN_IF_ERROR(cuda::read_counts(store, counts, stream));
  counters = {static_cast<std::int64_t>(counts[kKvHits]),
              static_cast<std::int64_t>(counts[kKvMisses]),
              static_cast<std::int64_t>(counts[kKvEvictions])};
#endif
  return {};
}

}  // namespace hip_attn
