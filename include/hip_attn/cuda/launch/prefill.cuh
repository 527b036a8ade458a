/// Prefill on CUDA: the plan, the workspace, and the launches of search and attention.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "hip_attn/carver.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cost/prefill.hpp"
#include "hip_attn/cuda/attend/sm80/kernel.cuh"
#include "hip_attn/cuda/launch/attend_sm90.cuh"
#include "hip_attn/cuda/launch/dense_until.hpp"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/operators.hpp"
#include "hip_attn/cuda/launch/prefill_schedule.cuh"
#include "hip_attn/cuda/launch/prefill_searches.cuh"
#include "hip_attn/cuda/launch/staging.cuh"
#include "hip_attn/cuda/launch/tensors.hpp"

namespace hip_attn::cuda {
namespace prefill_launch {

/// Query rows of a unit: a search in the workspace keeps them once per thread block.
inline constexpr std::int64_t kMaxUnitRows = 16384;

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
  params.heads_at_once = static_cast<std::int32_t>(
      prefill_heads_at_once(plan.shape.max_seq_len, plan.shape.head_dim, sizeof(StoredOf<Traits>),
                            plan.shape.num_kv_heads));
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

/// Thread blocks that search for one unit, so that few units occupy most multiprocessors.
template <typename Params>
int search_cluster(const PrefillSchedule& schedule, const Params& params, std::int64_t units,
                   const Companion& companion) {
  constexpr int kMost = 8;  // more is not portable
  const bool takes_clusters =
      schedule.dense_search_blocks > 0 || (schedule.sm90_search && schedule.search_blocks == 0);
  if (!takes_clusters || params.selection_in.blocks) return 1;
  const int free = schedule.multiprocessors - companion.multiprocessors;
  int cluster = 1;
  while (cluster < kMost && 2 * cluster * units <= free) cluster *= 2;
  return cluster;
}

template <typename Traits>
Status launch_search(const AttentionPlan& plan, const PrefillSchedule& schedule,
                     const PrefillParams<StoredOf<Traits>>& params, Stream stream,
                     const Companion& companion) {
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  const Search<Traits>& search = search_of<Traits>(plan, schedule);
  LaunchShape shape{.blocks = units, .threads = kSearchThreads, .companion = companion};
  shape.cluster = search_cluster(schedule, params, units, companion);
  const auto resident = [&](int blocks) {
    return std::min(units, blocks_beside(blocks, schedule.multiprocessors, companion));
  };
  if (schedule.dense_search_blocks > 0) {
    shape.blocks = resident(schedule.dense_search_blocks);
  } else if (schedule.search_blocks > 0) {  // in the workspace
    shape.blocks = resident(schedule.search_blocks);
    return launch("run_prefill", search.kernel, shape, stream, params);
  }
  shape.blocks *= shape.cluster;
  shape.shared_bytes = search.bytes(plan);
  return launch("run_prefill", search.kernel, shape, stream, params);
}

template <typename Traits>
Status launch_attend(const PrefillSchedule& schedule, const PrefillParams<StoredOf<Traits>>& params,
                     Stream stream, const Companion& companion) {
  if (schedule.sm90_attend)
    return launch_sm90_attend<Traits>(params, schedule.multiprocessors, stream, companion);
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  const LaunchShape shape{.blocks = units * ceil_div(params.max_rows, sm80::kAttendRows),
                          .threads = sm80::kAttendThreads,
                          .shared_bytes = sizeof(sm80::AttendShared<Traits>),
                          .companion = companion};
  return launch("run_prefill", sm80::attend_kernel<Traits>, shape, stream, params);
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
  plan.dense_until = dense_until(plan.config, plan.shape.num_q_heads, plan.shape.num_kv_heads,
                                 plan.shape.max_seq_len);
  if (plan.shape.staging_bytes > 0) schedule.staged = staged_kernels(plan);
  plan.schedule.set(schedule);
  PrefillParams<StoredOf<Traits>> unused{};
  StagingMemory staging;
  plan.workspace_bytes = prefill_launch::carve<Traits>(plan, schedule, nullptr, unused, staging);
  return {};
}

template <typename Traits, Element T>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                   std::byte* workspace, Stream stream) {
  if (args.seq_lens.sizes[0] == 0 || args.out.sizes[0] == 0) return {};
  const DeviceGuard guard(plan.shape.device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "run_prefill");
  const PrefillSchedule schedule = prefill_schedule(plan);
  StagingMemory staging;
  const auto params = prefill_launch::make_params<Traits>(plan, schedule, args, workspace, staging);
  const auto search = [&](const auto& of, const Companion& companion) {
    return prefill_launch::launch_search<Traits>(plan, schedule, of, stream, companion);
  };
  const auto attend = [&](const auto& of, const Companion& companion) {
    return prefill_launch::launch_attend<Traits>(schedule, of, stream, companion);
  };
  if (args.store && staging.params.num_pages > 0) {
    return StagedPrefill<StoredOf<Traits>>(plan, staging, *args.store, args.kv.pages, params,
                                           stream)
        .run(search, attend);
  }
  if (params.selection.blocks) {
    if (Status status = search(params, {}); !status.ok()) return status;
  }
  return attend(params, {});
}

}  // namespace hip_attn::cuda
