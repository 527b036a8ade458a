// Prefill on CUDA: the plan, the workspace, and the launches of search and attention.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <string>

#include "attention_params.hpp"
#include "cuda_backend.hpp"
#include "dense_until.hpp"
#include "dispatch.hpp"
#include "hip_attn/carver.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "launch.hpp"
#include "prefill_hopper.hpp"
#include "prefill_kernels.hpp"

namespace hip_attn::cuda {
namespace {

template <typename T>
PrefillKernels<T> kernels_for(std::int64_t head_dim) {
  switch (head_dim) {
#define HIP_ATTN_CASE(kHeadDim) \
  case kHeadDim:                \
    return prefill_kernels<T, kHeadDim>();
    HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_CASE)
#undef HIP_ATTN_CASE
    default:
      return {};  // refused by the plan
  }
}

// Query rows of a unit: a search in the workspace keeps them once per thread block.
constexpr std::int64_t kMaxUnitRows = 16384;

// KV heads that attention works on at the same time: as many as share the L2 cache. More at once
// balance short prompts better; a head that does not fit alone is gathered from memory anyway.
template <typename T>
std::int32_t heads_at_once(const AttentionPlan& plan) {
  constexpr std::int64_t kBytes = std::int64_t{32} << 20;  // of 50 (H100) or 60 MB (H200)
  const std::int64_t head_bytes = std::max<std::int64_t>(
      1, 2 * plan.shape.max_seq_len * plan.shape.head_dim * static_cast<std::int64_t>(sizeof(T)));
  return static_cast<std::int32_t>(
      std::clamp<std::int64_t>(kBytes / head_bytes, 1, plan.shape.num_kv_heads));
}

// Everything that follows from a plan and that the launches need too.
struct PrefillSizes {
  std::int64_t group;
  std::int64_t max_rows;
  std::int64_t list_length;
  std::array<ScanSize, kMaxStages> scans;
};

PrefillSizes sizes_of(const AttentionPlan& plan) {
  PrefillSizes sizes{};
  const std::int64_t candidates = max_candidates(plan.config, plan.shape.max_seq_len);
  sizes.group = plan.shape.num_q_heads / plan.shape.num_kv_heads;
  const std::int64_t positions =
      std::min<std::int64_t>(plan.config.block_q, std::max<std::int64_t>(1, plan.shape.total_q));
  sizes.max_rows = positions * sizes.group;
  sizes.list_length = max_selected_blocks(plan.config, candidates);
  for (int s = 0; s < plan.config.num_stages(); ++s) {
    sizes.list_length = std::max(sizes.list_length, max_survivors(plan.config, s, candidates));
    const std::int64_t pooled = plan.config.block_q / plan.config.stages[s].query_stride;
    sizes.scans[s] = {std::min(positions, pooled) * sizes.group,
                      max_stage_chunks(plan.config, s, candidates)};
  }
  return sizes;
}

// The search that a plan has chosen.
template <typename T>
const typename PrefillKernels<T>::Search& search_of(const PrefillKernels<T>& kernels,
                                                    const AttentionPlan& plan) {
  if (plan.cuda.search_blocks > 0) return kernels.search_in_workspace;
  return plan.cuda.hopper_search ? kernels.search_hopper : kernels.search;
}

template <typename T>
std::size_t search_bytes(const typename PrefillKernels<T>::Search& search,
                         const AttentionPlan& plan) {
  const PrefillSizes sizes = sizes_of(plan);
  return search.bytes(sizes.scans.data(), plan.config.num_stages(), sizes.list_length);
}

// Lays out the workspace, or measures it when `memory` is null: selections that the caller does not
// take, and the memory of a search that does not fit shared memory.
template <typename T>
std::size_t carve(const AttentionPlan& plan, std::byte* memory, PrefillParams<T>& params) {
  const std::int64_t heads = plan.shape.num_kv_heads;
  const std::int64_t units = plan.selection_rows * heads;
  Carver carver(memory);
  params.selection.counts = carver.take<std::int32_t>(units);
  params.selection.counts_row_stride = heads;
  params.selection.window_start = carver.take<std::int32_t>(units);
  params.selection.window_row_stride = heads;
  params.selection.blocks = carver.take<std::int32_t>(units * plan.max_selected_blocks);
  params.selection.blocks_row_stride = heads * plan.max_selected_blocks;
  params.selection.blocks_head_stride = plan.max_selected_blocks;
  params.selection.max_blocks = plan.max_selected_blocks;
  if (plan.cuda.search_blocks > 0) {
    const PrefillKernels<T> kernels = kernels_for<T>(plan.shape.head_dim);
    params.search_bytes =
        static_cast<std::int64_t>(search_bytes<T>(kernels.search_in_workspace, plan));
    params.search_memory = carver.take<std::byte>(plan.cuda.search_blocks * params.search_bytes);
  }
  return carver.bytes();
}

struct DeviceLimits {
  int multiprocessors = 0;
  int largest_shared = 0;  // of a thread block
  bool hopper = false;
};

Status device_limits(Device device, DeviceLimits& limits) {
  int major = 0;
  int minor = 0;
  const struct {
    int* value;
    cudaDeviceAttr attribute;
  } queries[] = {{&limits.multiprocessors, cudaDevAttrMultiProcessorCount},
                 {&limits.largest_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin},
                 {&major, cudaDevAttrComputeCapabilityMajor},
                 {&minor, cudaDevAttrComputeCapabilityMinor}};
  for (const auto& query : queries) {
    const cudaError_t error = cudaDeviceGetAttribute(query.value, query.attribute, device.index);
    if (error != cudaSuccess) return to_status(error, "plan_prefill");
  }
  limits.hopper = major == 9 && minor == 0;
  return {};
}

// Whether the search works in shared memory here; readies it when it does. It never does for a
// kernel that this build left empty.
template <typename T>
Status prepare_search(const typename PrefillKernels<T>::Search& search, const AttentionPlan& plan,
                      int largest_shared, bool& fits) {
  cudaFuncAttributes attributes{};
  cudaError_t error = cudaFuncGetAttributes(&attributes, search.kernel);
  const auto most = static_cast<std::size_t>(largest_shared) - attributes.sharedSizeBytes;
  const bool built = error == cudaSuccess && attributes.sharedSizeBytes > 0;
  fits = built && search_bytes<T>(search, plan) <= most;
  if (fits) {
    error = cudaFuncSetAttribute(search.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(most));
  }
  return to_status(error, "plan_prefill");
}

// Chooses the search kernel and readies it.
template <typename T>
Status plan_search(const PrefillKernels<T>& kernels, const DeviceLimits& device,
                   AttentionPlan& plan) {
  if (device.hopper) {
    Status status = prepare_search<T>(kernels.search_hopper, plan, device.largest_shared,
                                      plan.cuda.hopper_search);
    if (!status.ok()) return status;
  }
  bool fits = false;  // also where the Hopper search does: a plan may be set to this one
  Status status = prepare_search<T>(kernels.search, plan, device.largest_shared, fits);
  if (!status.ok() || fits) return status;
  if (plan.cuda.hopper_search) return {};
  int per_multiprocessor = 0;
  const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &per_multiprocessor, kernels.search_in_workspace.kernel, kernels.search_threads, 0);
  plan.cuda.search_blocks = std::max(1, per_multiprocessor * device.multiprocessors);
  return to_status(error, "plan_prefill");
}

template <typename T>
Status plan_of_type(AttentionPlan& plan) {
  const PrefillKernels<T> kernels = kernels_for<T>(plan.shape.head_dim);
  const DeviceGuard guard(plan.shape.device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "plan_prefill");
  DeviceLimits device;
  if (Status status = device_limits(plan.shape.device, device); !status.ok()) return status;
  if (Status status = plan_search(kernels, device, plan); !status.ok()) return status;
  const cudaError_t error =
      cudaFuncSetAttribute(kernels.attend, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(kernels.attend_shared_bytes));
  if (error != cudaSuccess) return to_status(error, "plan_prefill");
  plan.cuda.multiprocessors = device.multiprocessors;
  if (device.hopper) {
    Status status = prepare_hopper_attend<T>(plan.shape.head_dim, plan.cuda.hopper);
    if (!status.ok()) return status;
  }
  plan.dense_until = dense_until(plan.config, sizes_of(plan).group, plan.shape.max_seq_len);
  PrefillParams<T> unused{};
  plan.workspace_bytes = carve<T>(plan, nullptr, unused);
  return {};
}

// Where the selection of this call is written and read: the caller's memory as far as there is
// some.
template <typename T>
void place_selection(const AttentionPlan& plan, const AttentionArgs<T>& args,
                     PrefillParams<T>& params) {
  if (args.selection) params.selection_in = selection_params(*args.selection);
  if (args.selection_out) {
    params.selection = selection_params(*args.selection_out);
  } else if (args.selection) {  // of any width: its blocks are read where they are
    const auto& given = params.selection_in;
    params.selection.blocks = const_cast<std::int32_t*>(given.blocks);
    params.selection.blocks_row_stride = given.blocks_row_stride;
    params.selection.blocks_head_stride = given.blocks_head_stride;
    params.selection.max_blocks = given.max_blocks;
  } else if (plan.config.is_dense() || plan.config.is_window_only() ||
             plan.dense_until >= plan.shape.max_seq_len) {
    params.selection.blocks = nullptr;  // nothing to search
  }
}

template <typename T>
PrefillParams<T> make_params(const AttentionPlan& plan, const AttentionArgs<T>& args,
                             std::byte* workspace) {
  const HipConfig& config = plan.config;
  const PrefillSizes sizes = sizes_of(plan);
  PrefillParams<T> params{};
  carve(plan, workspace, params);
  params.q = args.q.data;
  params.q_row_stride = args.q.strides[0];
  params.q_head_stride = args.q.strides[1];
  params.out = args.out.data;
  params.out_row_stride = args.out.strides[0];
  params.out_head_stride = args.out.strides[1];
  params.lse = args.lse ? args.lse->data : nullptr;
  params.lse_row_stride = args.lse ? args.lse->strides[0] : 0;
  params.kv = kv_params(args.kv);
  params.seq_lens = args.seq_lens.data;
  params.cu_seqlens_q = args.cu_seqlens_q.data;
  params.total_q = static_cast<std::int32_t>(args.q.sizes[0]);

  params.batch = static_cast<std::int32_t>(args.seq_lens.sizes[0]);
  params.num_kv_heads = static_cast<std::int32_t>(plan.shape.num_kv_heads);
  params.heads_at_once = heads_at_once<T>(plan);
  params.group = static_cast<std::int32_t>(sizes.group);
  params.max_seq_len = saturate(plan.shape.max_seq_len);
  const LogitScale logits = logit_scale(plan, args);
  params.scale_log2 = logits.scale_log2;
  params.softcap_log2 = logits.softcap_log2;

  params.sink = saturate(config.sink);
  const SearchedConfig searched = searched_config(config);
  // Where no query block searches, none has its window's start written either.
  const bool every_key = searched.num_stages > 0 && plan.dense_until >= plan.shape.max_seq_len;
  params.window = every_key ? INT32_MAX : searched.window;
  params.window_step = searched.window_step;
  params.row_window = searched.row_window;
  params.block_q = config.block_q;
  params.max_first_chunks = saturate(config.max_first_chunks);
  params.block_k = config.block_k();
  params.dense_until = args.selection || config.is_window_only() ? 0 : saturate(plan.dense_until);
  params.num_stages = searched.num_stages;
  for (int s = 0; s < params.num_stages; ++s) {
    const ScanStage& stage = config.stages[s];
    params.stages[s] = {stage.chunk_size,
                        stage.query_stride,
                        saturate(stage.keep),
                        0,
                        0,
                        stage.rule == ScanRule::kCentre};
  }

  params.selection_rows = saturate(selection_row(params.total_q, params.batch, 0, config.block_q));
  place_selection(plan, args, params);
  if (args.counters) params.counters = counters_of(*args.counters, config);

  params.max_rows = static_cast<std::int32_t>(sizes.max_rows);
  params.list_length = saturate(sizes.list_length);
  return params;
}

template <typename T>
Status launch_kernel(void (*kernel)(PrefillParams<T>), std::int64_t blocks, int threads,
                     std::size_t shared_bytes, const PrefillParams<T>& params, Stream stream,
                     int cluster = 1) {
  cudaLaunchConfig_t config{};
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  config.attrs = &attribute;
  config.numAttrs = cluster > 1 ? 1 : 0;
  config.gridDim = grid_for(blocks, 1);
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return to_status(cudaLaunchKernelEx(&config, kernel, params), "run_prefill");
}

// Thread blocks that search for one unit, so that few units occupy most multiprocessors.
template <typename T>
int search_cluster(const AttentionPlan& plan, const PrefillParams<T>& params, std::int64_t units) {
  constexpr int kMost = 8;  // more is not portable
  if (!plan.cuda.hopper_search || plan.cuda.search_blocks > 0 || params.selection_in.blocks)
    return 1;
  int cluster = 1;
  while (cluster < kMost && 2 * cluster * units <= plan.cuda.multiprocessors) cluster *= 2;
  return cluster;
}

template <typename T>
Status launch_search(const PrefillKernels<T>& kernels, const AttentionPlan& plan,
                     const PrefillParams<T>& params, Stream stream) {
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  const auto& search = search_of(kernels, plan);
  const int blocks = plan.cuda.search_blocks;
  if (blocks > 0) {
    return launch_kernel(search.kernel, std::min<std::int64_t>(units, blocks),
                         kernels.search_threads, 0, params, stream);
  }
  const int cluster = search_cluster(plan, params, units);
  return launch_kernel(search.kernel, units * cluster, kernels.search_threads,
                       search_bytes<T>(search, plan), params, stream, cluster);
}

template <typename T>
Status launch_attend(const PrefillKernels<T>& kernels, const AttentionPlan& plan,
                     const PrefillParams<T>& params, Stream stream) {
  if (plan.cuda.hopper)
    return launch_hopper_attend(params, plan.shape.head_dim, plan.cuda.multiprocessors, stream);
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  return launch_kernel(kernels.attend, units * ceil_div(params.max_rows, kernels.attend_rows),
                       kernels.attend_threads, kernels.attend_shared_bytes, params, stream);
}

}  // namespace

Status plan_prefill(AttentionPlan& plan) {
  const std::int64_t rows = sizes_of(plan).max_rows;
  if (rows > kMaxUnitRows) {
    return {StatusCode::kUnsupported,
            "config.block_q * num_q_heads / num_kv_heads gives " + std::to_string(rows) +
                " query rows to a selection; prefill on CUDA takes up to " +
                std::to_string(kMaxUnitRows)};
  }
  if (Status status = check_stages(plan.config, "prefill"); !status.ok()) return status;
  return visit_attention_type(plan.type, "prefill",
                              [&]<typename T>() { return plan_of_type<T>(plan); });
}

template <Element T, StoredFor<T> C>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args, std::byte* workspace,
                   Stream stream) {
  if constexpr (!std::same_as<T, C> || std::same_as<T, float> || !kBuilt<T>) {
    return {StatusCode::kUnsupported, "prefill on CUDA takes float16 and bfloat16"};
  } else {
    if (args.seq_lens.sizes[0] == 0 || args.q.sizes[0] == 0) return {};
    const DeviceGuard guard(plan.shape.device);
    if (guard.error() != cudaSuccess) return to_status(guard.error(), "run_prefill");
    const PrefillKernels<T> kernels = kernels_for<T>(plan.shape.head_dim);
    const PrefillParams<T> params = make_params(plan, args, workspace);
    if (params.selection.blocks) {
      if (Status status = launch_search(kernels, plan, params, stream); !status.ok()) return status;
    }
    return launch_attend(kernels, plan, params, stream);
  }
}

#define HIP_ATTN_INSTANTIATE(T, C) \
  template Status run_prefill(const AttentionPlan&, const AttentionArgs<T, C>&, std::byte*, Stream);
HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_INSTANTIATE)
#undef HIP_ATTN_INSTANTIATE

}  // namespace hip_attn::cuda
