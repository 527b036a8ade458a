/// Prefill on CUDA: the plan, the workspace, and the launches of search and attention.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "hip_attn/carver.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/attend/sm80/kernel.cuh"
#include "hip_attn/cuda/launch/attend_sm90.cuh"
#include "hip_attn/cuda/launch/dense_until.hpp"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/operators.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/cuda/launch/staging.cuh"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/cuda/search/dense_kernel.cuh"
#include "hip_attn/cuda/search/kernel.cuh"
#include "hip_attn/cuda/search/row_kernel.cuh"

namespace hip_attn::cuda {
namespace prefill_launch {

/// Query rows of a unit: a search in the workspace keeps them once per thread block.
inline constexpr std::int64_t kMaxUnitRows = 16384;

/// KV heads that attention works on at the same time: as many as share the L2 cache. More at once
/// balance short prompts better; a head that does not fit alone is gathered from memory anyway.
template <typename Stored>
std::int32_t heads_at_once(const AttentionPlan& plan) {
  constexpr std::int64_t kBytes = std::int64_t{32} << 20;  // of 50 (H100) or 60 MB (H200)
  const std::int64_t head_bytes =
      std::max<std::int64_t>(1, 2 * plan.shape.max_seq_len * plan.shape.head_dim *
                                    static_cast<std::int64_t>(sizeof(Stored)));
  return static_cast<std::int32_t>(
      std::clamp<std::int64_t>(kBytes / head_bytes, 1, plan.shape.num_kv_heads));
}

/// Everything that follows from a plan and that the launches need too.
struct PrefillSizes {
  std::int64_t group;
  std::int64_t max_rows;
  std::int64_t list_length;
  int num_scans;
  std::array<ScanSize, kMaxStages> scans;
};

inline PrefillSizes sizes_of(const AttentionPlan& plan) {
  PrefillSizes sizes{};
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  sizes.group = plan.shape.num_q_heads / plan.shape.num_kv_heads;
  const std::int64_t positions =
      std::min<std::int64_t>(plan.config.block_q, std::max<std::int64_t>(1, plan.shape.total_q));
  sizes.max_rows = positions * sizes.group;
  sizes.list_length = list_length(search);
  sizes.num_scans = search.num_stages;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    const std::int64_t pooled = plan.config.block_q / stage.query_stride;
    sizes.scans[s] = {std::min(positions, pooled) * sizes.group, stage.max_chunks};
  }
  return sizes;
}

/// A search and the memory of one of its thread blocks.
template <typename Traits>
struct Search {
  void (*kernel)(PrefillParams<StoredOf<Traits>>);
  std::size_t (*block_bytes)(const ScanSize* scans, int num_scans, std::int64_t list_length);

  std::size_t bytes(const AttentionPlan& plan) const {
    const PrefillSizes sizes = sizes_of(plan);
    return block_bytes(sizes.scans.data(), sizes.num_scans, sizes.list_length);
  }
};

template <typename Traits>
struct Searches {
  static constexpr Search<Traits> kShared = {search_kernel<Traits>, search_bytes<Traits>};
  static constexpr Search<Traits> kInWorkspace = {search_in_workspace_kernel<Traits>,
                                                  search_bytes<Traits>};
  static constexpr Search<Traits> kSm90 = {search_sm90_kernel<Traits>, sm90_search_bytes<Traits>};
  static constexpr Search<Traits> kRows = {search_rows_kernel<Traits>, row_search_bytes<Traits>};
  static constexpr Search<Traits> kDense = {search_dense_kernel<Traits>,
                                            dense_search_bytes<Traits>};
};

/// Some stage needs search_rows_kernel.
inline bool needs_row_search(const SearchPlan& search) {
  return std::any_of(search.stages, search.stages + search.num_stages, writes_row_logits);
}

/// The search that works in the workspace, where one is chosen.
template <typename Traits>
const Search<Traits>& workspace_search(const AttentionPlan& plan) {
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  return needs_row_search(search) ? Searches<Traits>::kRows : Searches<Traits>::kInWorkspace;
}

/// The search that a plan has chosen.
template <typename Traits>
const Search<Traits>& search_of(const AttentionPlan& plan, const PrefillSchedule& schedule) {
  if (schedule.dense_search_blocks > 0) return Searches<Traits>::kDense;
  if (schedule.search_blocks > 0) return workspace_search<Traits>(plan);
  return schedule.sm90_search ? Searches<Traits>::kSm90 : Searches<Traits>::kShared;
}

/// What a team of the dense search needs in the workspace.
inline std::int64_t dense_team_bytes(const AttentionPlan& plan) {
  return static_cast<std::int64_t>(dense_mass_bytes(
      make_search_plan(plan.config, plan.shape.max_seq_len), sizes_of(plan).scans.data()));
}

/// Lays out the workspace, or measures it when `memory` is null: selections that the caller does
/// not take, the memory of a search that works there, and that through which a store is read.
template <typename Traits>
std::size_t carve(const AttentionPlan& plan, const PrefillSchedule& schedule, std::byte* memory,
                  PrefillParams<StoredOf<Traits>>& params, StagingMemory& staging) {
  Carver carver(memory);
  params.selection = take_selection(carver, plan.selection_rows, plan.shape.num_kv_heads,
                                    plan.max_selected_blocks);
  // Of either search, because a plan may be set to the portable one.
  std::int64_t bytes = 0;
  if (schedule.search_blocks > 0) {
    params.search_bytes = static_cast<std::int64_t>(workspace_search<Traits>(plan).bytes(plan));
    bytes = schedule.search_blocks * params.search_bytes;
  }
  if (schedule.dense_search_blocks > 0) {
    params.search_bytes = dense_team_bytes(plan);
    bytes = std::max(bytes, schedule.dense_search_blocks * params.search_bytes);
  }
  if (bytes > 0) params.search_memory = carver.take<std::byte>(bytes);
  staging = take_staging(plan, carver);
  return carver.bytes();
}

struct DeviceLimits {
  int multiprocessors = 0;
  int largest_shared = 0;  // of a thread block
  bool sm90 = false;
};

inline Status device_limits(Device device, DeviceLimits& limits) {
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
  limits.sm90 = major == 9 && minor == 0;
  return {};
}

/// What a device can do with one search kernel.
struct SearchFit {
  bool built = false;  // the build is not empty of it
  bool fits = false;   // and it works in shared memory here, for which it has been readied
};

template <typename Traits>
Status prepare_search(const Search<Traits>& search, const AttentionPlan& plan, int largest_shared,
                      SearchFit& fit) {
  cudaFuncAttributes attributes{};
  cudaError_t error = cudaFuncGetAttributes(&attributes, search.kernel);
  const auto most = static_cast<std::size_t>(largest_shared) - attributes.sharedSizeBytes;
  fit.built = error == cudaSuccess && attributes.sharedSizeBytes > 0;
  fit.fits = fit.built && search.bytes(plan) <= most;
  if (fit.fits) {
    error = cudaFuncSetAttribute(search.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(most));
  }
  return to_status(error, "plan_prefill");
}

/// The thread blocks of a kernel that are resident at once.
template <typename Params>
cudaError_t resident_blocks(void (*kernel)(Params), int threads, std::size_t shared_bytes,
                            int multiprocessors, int& blocks) {
  int per_multiprocessor = 0;
  const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &per_multiprocessor, kernel, threads, shared_bytes);
  blocks = std::max(1, per_multiprocessor * multiprocessors);
  return error;
}

/// Readies the dense search where a plan can have it.
template <typename Traits>
Status prepare_dense_search(const AttentionPlan& plan, int largest_shared,
                            PrefillSchedule& schedule) {
  const Search<Traits>& search = Searches<Traits>::kDense;
  SearchFit fit;
  if (Status status = prepare_search(search, plan, largest_shared, fit); !status.ok())
    return status;
  const PrefillSizes sizes = sizes_of(plan);
  const bool scores_fit = std::all_of(
      sizes.scans.begin(), sizes.scans.begin() + sizes.num_scans, [](const ScanSize& scan) {
        return scan.chunks <= DenseLayout<Traits::kHeadDim>::kMostScores;
      });
  if (!fit.fits || !scores_fit ||
      !is_dense_search(make_search_plan(plan.config, plan.shape.max_seq_len)))
    return {};
  const cudaError_t error = resident_blocks(search.kernel, kSearchThreads, search.bytes(plan),
                                            schedule.multiprocessors, schedule.dense_search_blocks);
  const std::int64_t units = plan.selection_rows * plan.shape.num_kv_heads;
  schedule.dense_search_blocks =
      static_cast<int>(std::clamp<std::int64_t>(units, 1, schedule.dense_search_blocks));
  return to_status(error, "plan_prefill");
}

/// Chooses the kernels of search and attention and readies them.
template <typename Traits>
Status make_schedule(const AttentionPlan& plan, const DeviceLimits& device,
                     PrefillSchedule& schedule) {
  schedule.multiprocessors = device.multiprocessors;
  cudaError_t error =
      cudaFuncSetAttribute(sm80::attend_kernel<Traits>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(sizeof(sm80::AttendShared<Traits>)));
  if (error != cudaSuccess) return to_status(error, "plan_prefill");
  const bool in_shared = !needs_row_search(make_search_plan(plan.config, plan.shape.max_seq_len));
  SearchFit fit;
  if (device.sm90) {
    if (Status status = prepare_search(Searches<Traits>::kSm90, plan, device.largest_shared, fit);
        !status.ok())
      return status;
    schedule.sm90_search = in_shared && fit.fits;
    schedule.sm90_attend = fit.built;
    if (fit.built) {
      if (Status status = prepare_sm90_attend<Traits>(); !status.ok()) return status;
      if (Status status = prepare_dense_search<Traits>(plan, device.largest_shared, schedule);
          !status.ok())
        return status;
    }
  }
  // Also where the search for 9.0 fits: a plan may be set to this one.
  if (Status status = prepare_search(Searches<Traits>::kShared, plan, device.largest_shared, fit);
      !status.ok() || (in_shared && fit.fits) || schedule.sm90_search)
    return status;
  const Search<Traits>& search = workspace_search<Traits>(plan);
  error = resident_blocks(search.kernel, kSearchThreads, 0, device.multiprocessors,
                          schedule.search_blocks);
  std::int64_t most = plan.selection_rows * plan.shape.num_kv_heads;
  if (schedule.dense_search_blocks > 0) {  // which the workspace is for
    const std::int64_t dense_bytes = schedule.dense_search_blocks * dense_team_bytes(plan);
    most = std::min(most, dense_bytes / static_cast<std::int64_t>(search.bytes(plan)));
  }
  schedule.search_blocks =
      static_cast<int>(std::clamp<std::int64_t>(most, 1, schedule.search_blocks));
  return to_status(error, "plan_prefill");
}

/// Where the selection of this call is written and read: the caller's memory as far as there is
/// some.
template <Element T, StoredFor<T> C>
void place_selection(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                     PrefillParams<C>& params) {
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

template <typename Traits, Element T>
PrefillParams<StoredOf<Traits>> make_params(const AttentionPlan& plan,
                                            const PrefillSchedule& schedule,
                                            const AttentionArgs<T, StoredOf<Traits>>& args,
                                            std::byte* workspace, StagingMemory& staging) {
  const HipConfig& config = plan.config;
  const PrefillSizes sizes = sizes_of(plan);
  PrefillParams<StoredOf<Traits>> params{};
  carve<Traits>(plan, schedule, workspace, params, staging);
  params.tensors = attention_tensors(args);

  params.num_kv_heads = static_cast<std::int32_t>(plan.shape.num_kv_heads);
  params.heads_at_once = heads_at_once<StoredOf<Traits>>(plan);
  params.group = static_cast<std::int32_t>(sizes.group);
  params.max_seq_len = saturated(plan.shape.max_seq_len);
  params.logits = logit_scale(plan, args);

  params.block_q = config.block_q;
  params.dense_until = args.selection || config.is_window_only() ? 0 : saturated(plan.dense_until);
  params.search = make_search_plan(config, plan.shape.max_seq_len);
  set_landmarks(plan, args, params.landmarks);
  // Where no query block searches, none has its window's start written either.
  const bool searches = plan.dense_until < plan.shape.max_seq_len;
  if (params.search.num_stages > 0 && !searches) params.search.window = SearchPlan::kUnbounded;

  params.selection_rows =
      saturated(selection_row(params.tensors.total_q, params.tensors.batch, 0, config.block_q));
  place_selection(plan, args, params);
  if (args.counters) params.counters = counters_of(*args.counters, config, params.search);

  params.max_rows = static_cast<std::int32_t>(sizes.max_rows);
  params.list_length = saturated(sizes.list_length);
  return params;
}

template <typename Params>
Status launch_kernel(void (*kernel)(Params), std::int64_t blocks, int threads,
                     std::size_t shared_bytes, const Params& params, Stream stream,
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

/// Thread blocks that search for one unit, so that few units occupy most multiprocessors.
template <typename Params>
int search_cluster(const PrefillSchedule& schedule, const Params& params, std::int64_t units) {
  constexpr int kMost = 8;  // more is not portable
  const bool takes_clusters =
      schedule.dense_search_blocks > 0 || (schedule.sm90_search && schedule.search_blocks == 0);
  if (!takes_clusters || params.selection_in.blocks) return 1;
  int cluster = 1;
  while (cluster < kMost && 2 * cluster * units <= schedule.multiprocessors) cluster *= 2;
  return cluster;
}

template <typename Traits>
Status launch_search(const AttentionPlan& plan, const PrefillSchedule& schedule,
                     const PrefillParams<StoredOf<Traits>>& params, Stream stream) {
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  const Search<Traits>& search = search_of<Traits>(plan, schedule);
  const int cluster = search_cluster(schedule, params, units);
  if (schedule.dense_search_blocks > 0) {
    const std::int64_t teams = std::min<std::int64_t>(units, schedule.dense_search_blocks);
    return launch_kernel(search.kernel, teams * cluster, kSearchThreads, search.bytes(plan), params,
                         stream, cluster);
  }
  if (schedule.search_blocks > 0) {
    return launch_kernel(search.kernel, std::min<std::int64_t>(units, schedule.search_blocks),
                         kSearchThreads, 0, params, stream);
  }
  return launch_kernel(search.kernel, units * cluster, kSearchThreads, search.bytes(plan), params,
                       stream, cluster);
}

template <typename Traits>
Status launch_attend(const PrefillSchedule& schedule, const PrefillParams<StoredOf<Traits>>& params,
                     Stream stream) {
  if (schedule.sm90_attend)
    return launch_sm90_attend<Traits>(params, schedule.multiprocessors, stream);
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  return launch_kernel(sm80::attend_kernel<Traits>,
                       units * ceil_div(params.max_rows, sm80::kAttendRows), sm80::kAttendThreads,
                       sizeof(sm80::AttendShared<Traits>), params, stream);
}

}  // namespace prefill_launch

template <typename Traits>
Status plan_prefill(AttentionPlan& plan) {
  const std::int64_t rows = prefill_launch::sizes_of(plan).max_rows;
  if (rows > prefill_launch::kMaxUnitRows) {
    return {StatusCode::kUnsupported,
            "config.block_q * num_q_heads / num_kv_heads gives " + std::to_string(rows) +
                " query rows to a selection; prefill on CUDA takes up to " +
                std::to_string(prefill_launch::kMaxUnitRows)};
  }
  const DeviceGuard guard(plan.shape.device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "plan_prefill");
  prefill_launch::DeviceLimits device;
  if (Status status = prefill_launch::device_limits(plan.shape.device, device); !status.ok())
    return status;
  PrefillSchedule schedule;
  if (Status status = prefill_launch::make_schedule<Traits>(plan, device, schedule); !status.ok())
    return status;
  plan.schedule.set(schedule);
  plan.dense_until = dense_until(plan.config, plan.shape.num_q_heads, plan.shape.num_kv_heads,
                                 plan.shape.max_seq_len);
  PrefillParams<StoredOf<Traits>> unused{};
  StagingMemory staging;
  plan.workspace_bytes = prefill_launch::carve<Traits>(plan, schedule, nullptr, unused, staging);
  return {};
}

template <typename Traits, Element T>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                   std::byte* workspace, Stream stream) {
  if (args.seq_lens.sizes[0] == 0 || args.q.sizes[0] == 0) return {};
  const DeviceGuard guard(plan.shape.device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "run_prefill");
  const PrefillSchedule schedule = prefill_schedule(plan);
  StagingMemory staging;
  const auto params = prefill_launch::make_params<Traits>(plan, schedule, args, workspace, staging);
  const auto search = [&](const auto& of, Stream on) {
    return prefill_launch::launch_search<Traits>(plan, schedule, of, on);
  };
  const auto attend = [&](const auto& of, Stream on) {
    return prefill_launch::launch_attend<Traits>(schedule, of, on);
  };
  if (args.store && staging.params.num_pages > 0) {
    return StagedPrefill<StoredOf<Traits>>(plan, staging, *args.store, args.kv.pages, params,
                                           stream)
        .run(search, attend);
  }
  if (params.selection.blocks) {
    if (Status status = search(params, stream); !status.ok()) return status;
  }
  return attend(params, stream);
}

}  // namespace hip_attn::cuda
