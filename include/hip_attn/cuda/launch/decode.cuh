/// Decode on CUDA: how many blocks a unit gets, the workspace, and the launch.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <string>

#include "hip_attn/carver.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/decode/kernel.cuh"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/operators.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"

namespace hip_attn::cuda {
namespace decode_launch {

/// The decode kernels of some traits for one kind of search.
template <typename Params>
struct DecodeKernels {
  void (*cluster)(Params);
  void (*cluster_at_once)(Params);
  void (*grid)(Params);
};

template <typename Traits, DecodeSearchKind kSearch>
inline constexpr DecodeKernels<DecodeParams<StoredOf<Traits>>> kDecodeKernels = {
    decode_kernel<Traits, ClusterTeam, false, kSearch>,
    decode_kernel<Traits, ClusterTeam, true, kSearch>,
    decode_kernel<Traits, GridTeam, false, kSearch>};

/// Of DecodeSearchKind::kDense, with a kernel of its own where that is faster in the mean.
template <typename Traits>
inline constexpr DecodeKernels<DecodeParams<StoredOf<Traits>>> kDenseDecodeKernels = {
    decode_kernel<Traits, ClusterTeam, false, DecodeSearchKind::kAll>,
    decode_kernel<Traits, ClusterTeam, true, DecodeSearchKind::kDense>,
    decode_kernel<Traits, GridTeam, false, DecodeSearchKind::kAll>};

inline DecodeSearchKind search_kind(const SearchPlan& search) {
  bool maxima = true;
  bool dense = true;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    const bool reads_all = stage.rule == ScanRule::kLandmark || stage.rule == ScanRule::kEveryKey;
    const bool sums = stage.reduction == Reduction::kSoftmaxSum;
    maxima &= !reads_all && !sums;
    dense &= reads_all && sums;
  }
  return maxima  ? DecodeSearchKind::kMaxima
         : dense ? DecodeSearchKind::kDense
                 : DecodeSearchKind::kAll;
}

template <typename Traits>
const DecodeKernels<DecodeParams<StoredOf<Traits>>>& kernels_of(const SearchPlan& search) {
  switch (search_kind(search)) {
    case DecodeSearchKind::kMaxima:
      return kDecodeKernels<Traits, DecodeSearchKind::kMaxima>;
    case DecodeSearchKind::kDense:
      return kDenseDecodeKernels<Traits>;
    case DecodeSearchKind::kAll:
      break;
  }
  return kDecodeKernels<Traits, DecodeSearchKind::kAll>;
}

/// Everything that follows from a plan and that the launch needs too.
struct DecodeSizes {
  std::int64_t group;
  std::int64_t max_rows;
  std::int64_t max_chunks;
  std::int64_t list_length;
  bool lists_in_shared;
  /// Of the stage with softmax sums that has most; 0: there is none.
  std::int64_t row_logits;
  std::int64_t tile_masses;
};

inline DecodeSizes sizes_of(const AttentionPlan& plan) {
  DecodeSizes sizes{};
  sizes.group = plan.shape.num_q_heads / plan.shape.num_kv_heads;
  const std::int64_t query_rows = std::min(kMaxDecodeRows, plan.shape.total_q);
  sizes.max_rows = query_rows * sizes.group;
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  sizes.max_chunks = search.max_chunks;
  sizes.list_length = list_length(search);
  sizes.lists_in_shared = sizes.list_length <= kSharedChunks;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    if (stage.reduction != Reduction::kSoftmaxSum) continue;
    const std::int64_t rows = ceil_div(query_rows, stage.query_stride) * sizes.group;
    // Rows begin on 16 bytes.
    sizes.row_logits =
        std::max(sizes.row_logits, rows * ((std::int64_t{stage.max_chunks} + 3) / 4 * 4));
    sizes.tile_masses = std::max(sizes.tile_masses, rows * num_sum_tiles(stage.max_chunks));
  }
  return sizes;
}

inline DecodeLayout layout_of(const AttentionPlan& plan, const DecodeSchedule& schedule) {
  const DecodeSizes sizes = sizes_of(plan);
  return decode_layout(static_cast<int>(plan.shape.head_dim), static_cast<int>(sizes.max_rows),
                       schedule.row_tile_shift, schedule.key_slots,
                       sizes.lists_in_shared ? static_cast<int>(sizes.list_length) : 0);
}

/// Lays out the workspace, or measures it when `memory` is null.
template <typename Traits>
std::size_t carve(const AttentionPlan& plan, const DecodeSchedule& schedule, std::byte* memory,
                  DecodeParams<StoredOf<Traits>>& params) {
  const DecodeSizes sizes = sizes_of(plan);
  const std::int64_t teams = schedule.num_teams;
  const auto head_dim = static_cast<int>(plan.shape.head_dim);
  params.layout = layout_of(plan, schedule);
  const int rows = pass_rows(params.layout.max_rows, params.layout.row_tile_shift);
  params.team_size = schedule.team_size;
  params.slice_shift = slice_shift(rows * head_dim, schedule.team_size);
  params.exchange_floats = exchange_floats(rows, head_dim);
  params.max_chunks = static_cast<std::int32_t>((sizes.max_chunks + 15) / 16 * 16);
  params.list_length = static_cast<std::int32_t>(sizes.list_length);
  Carver carver(memory);
  params.arrivals = carver.take<std::uint32_t>(teams);
  params.scores = carver.take<float>(teams * 2 * params.max_chunks);
  // Clusters do without, but may be switched off in a plan.
  params.exchange = carver.take<float>(teams * schedule.team_size * params.exchange_floats);
  params.row_logits_size = sizes.row_logits;
  params.row_logits = carver.take<float>(teams * 2 * params.row_logits_size);
  params.tile_masses_size = sizes.tile_masses;
  params.tile_masses = carver.take<float>(teams * 2 * params.tile_masses_size);
  params.lists =
      sizes.lists_in_shared
          ? nullptr
          : carver.take<std::int32_t>(teams * schedule.team_size * 2 * sizes.list_length);
  return carver.bytes();
}

/// Gives a block as many slots for tiles of keys as its shared memory holds, at least `least` for
/// every tile of query rows that it attends to at once. False: it does not hold them.
inline bool fit_shared_memory(int largest, int least, const AttentionPlan& plan,
                              DecodeSchedule& schedule) {
  const std::int64_t max_rows = sizes_of(plan).max_rows;
  schedule.row_tile_shift = 0;
  while ((kRowsPerTile << schedule.row_tile_shift) < max_rows &&
         1 << schedule.row_tile_shift < kDecodeWarps) {
    ++schedule.row_tile_shift;
  }
  for (; schedule.row_tile_shift >= 0; --schedule.row_tile_shift) {
    for (schedule.key_slots = kSlotsPerWarp * kDecodeWarps;
         schedule.key_slots >> schedule.row_tile_shift >= least; --schedule.key_slots) {
      if (layout_of(plan, schedule).bytes <= largest) return true;
    }
  }
  return false;
}

/// The same. Where a request with most rows takes several passes in any case, a pass is made
/// smaller before a tile of rows is left with a single slot, for the sake of requests with few.
inline bool fit_shared_memory(int largest, const AttentionPlan& plan, DecodeSchedule& schedule) {
  const bool one_pass = sizes_of(plan).max_rows <= kRowsPerTile * kDecodeWarps;
  return (!one_pass && fit_shared_memory(largest, 2, plan, schedule)) ||
         fit_shared_memory(largest, 1, plan, schedule);
}

inline cudaLaunchConfig_t launch_config(const AttentionPlan& plan, const DecodeSchedule& schedule,
                                        std::int64_t batch,
                                        std::array<cudaLaunchAttribute, 2>& attributes,
                                        Stream stream) {
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(kDecodeThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(layout_of(plan, schedule).bytes);
  config.stream = stream;
  const auto team_size = static_cast<unsigned>(schedule.team_size);
  if (schedule.clusters) {
    config.gridDim = dim3(team_size, static_cast<unsigned>(plan.shape.num_kv_heads),
                          static_cast<unsigned>(batch));
    attributes[0] = cluster_attribute(schedule.team_size);
    attributes[1] = early_start_attribute();  // ClusterTeam::wait_for_upstream() waits
    config.numAttrs = 2;
  } else {
    config.gridDim = dim3(static_cast<unsigned>(schedule.num_teams) * team_size);
    attributes[0].id = cudaLaunchAttributeCooperative;
    attributes[0].val.cooperative = 1;
    config.numAttrs = 1;
  }
  config.attrs = attributes.data();
  return config;
}

/// Blocks of a unit when `blocks` can be resident at once: as many as there are to spare.
inline int team_size_for(std::int64_t units, int blocks) {
  return static_cast<int>(std::clamp<std::int64_t>(blocks / units, 1, kMaxTeamSize));
}

template <typename Traits>
Status make_schedule(AttentionPlan& plan) {
  using Params = DecodeParams<StoredOf<Traits>>;
  const auto& kernels = kernels_of<Traits>(make_search_plan(plan.config, plan.shape.max_seq_len));
  DecodeSchedule schedule;
  const DecodeSizes sizes = sizes_of(plan);
  const DeviceGuard guard(plan.shape.device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "plan_decode");

  int multiprocessors = 0;
  int major = 0;
  int largest_shared = 0;
  const struct {
    int* value;
    cudaDeviceAttr attribute;
  } queries[] = {{&multiprocessors, cudaDevAttrMultiProcessorCount},
                 {&major, cudaDevAttrComputeCapabilityMajor},
                 {&largest_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin}};
  for (const auto& query : queries) {
    const cudaError_t error =
        cudaDeviceGetAttribute(query.value, query.attribute, plan.shape.device.index);
    if (error != cudaSuccess) return to_status(error, "plan_decode");
  }
  if (!fit_shared_memory(largest_shared, plan, schedule)) {
    return {StatusCode::kUnsupported,
            "head_dim " + std::to_string(plan.shape.head_dim) + " with " +
                std::to_string(sizes.max_rows) +
                " query rows per KV head needs more shared memory than this GPU has, which is " +
                std::to_string(largest_shared) + " bytes"};
  }
  void (*const all[])(Params) = {kernels.cluster, kernels.cluster_at_once, kernels.grid};
  for (const auto kernel : all) {
    cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, largest_shared);
    if (error == cudaSuccess && major >= 9 && kernel != kernels.grid) {
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    }
    if (error != cudaSuccess) return to_status(error, "plan_decode");
  }

  const std::int64_t units = std::max<std::int64_t>(1, plan.shape.batch * plan.shape.num_kv_heads);
  // The limit of a grid's second and third dimension.
  // Float rows are GridTeam's (ClusterTeam::kFloatRows).
  schedule.clusters = major >= 9 && plan.type == plan.cache_type &&
                      plan.shape.batch <= kMostGridYz && plan.shape.num_kv_heads <= kMostGridYz;
  if (schedule.clusters) {
    schedule.team_size = team_size_for(units, multiprocessors);
    schedule.num_teams = static_cast<int>(units);
    // A cluster needs room in one GPC, and what is left there of others may not do: of 132
    // multiprocessors, 29 clusters of 4 are resident at once. Smaller ones spare a second wave.
    for (; schedule.team_size > 1; --schedule.team_size) {
      std::array<cudaLaunchAttribute, 2> attributes;
      const cudaLaunchConfig_t config = launch_config(
          plan, schedule, std::max<std::int64_t>(1, plan.shape.batch), attributes, nullptr);
      int resident = 0;
      const cudaError_t error = cudaOccupancyMaxActiveClusters(&resident, kernels.cluster, &config);
      if (error != cudaSuccess) return to_status(error, "plan_decode");
      if (resident >= units) break;
    }
  } else {
    int per_multiprocessor = 0;
    const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &per_multiprocessor, kernels.grid, kDecodeThreads,
        static_cast<std::size_t>(layout_of(plan, schedule).bytes));
    if (error != cudaSuccess) return to_status(error, "plan_decode");
    const int resident = per_multiprocessor * multiprocessors;
    schedule.team_size = team_size_for(units, resident);
    schedule.num_teams =
        static_cast<int>(std::min<std::int64_t>(units, resident / schedule.team_size));
  }
  Params unused;
  plan.workspace_bytes = carve<Traits>(plan, schedule, nullptr, unused);
  plan.schedule.set(schedule);
  return {};
}

/// DecodeParams::attends_to_cache. What a single stage keeps may be larger than blocks.
template <typename Stored>
bool attends_to_cache(const DecodeParams<Stored>& params) {
  return params.cache.words && params.search.num_stages > 1 && !params.selection_in.blocks &&
         !params.selection_out.blocks && params.logits.softcap_log2 == 0.f &&
         !params.tensors.q.is_float && params.group <= kRowsPerTile << params.layout.row_tile_shift;
}

/// DecodeParams::keys_at_once.
template <typename Stored>
std::int32_t keys_at_once(const AttentionPlan& plan, const DecodeSchedule& schedule,
                          const DecodeParams<Stored>& params) {
  const PagedTensor<Stored>& k = params.tensors.kv.k;
  const PagedTensor<Stored>& v = params.tensors.kv.v;
  const bool lie_alike = k.page_stride == v.page_stride && k.token_stride == v.token_stride &&
                         k.head_stride == v.head_stride;
  if (!params.attends_to_cache || params.group > kRowsPerTile || !lie_alike ||
      schedule.team_size == 1) {
    return 0;
  }
  const int slots = std::min(params.layout.slots, kSlotsPerWarp * kDecodeWarps);
  const std::int32_t keys = slots * schedule.team_size * kKeysPerTile;
  // What a row attends to at most, with a selection of its own length.
  const std::int64_t blocks = std::int64_t{params.last_stage.max_survivors} + 1;
  const std::int64_t needed =
      plan.config.sink + plan.config.window + blocks * plan.config.block_k();
  return needed <= keys ? keys : 0;
}

template <typename Traits, Element T>
DecodeParams<StoredOf<Traits>> make_params(const AttentionPlan& plan,
                                           const DecodeSchedule& schedule,
                                           const AttentionArgs<T, StoredOf<Traits>>& args,
                                           std::byte* workspace) {
  const HipConfig& config = plan.config;
  const DecodeSizes sizes = sizes_of(plan);
  DecodeParams<StoredOf<Traits>> params{};
  carve<Traits>(plan, schedule, workspace, params);
  params.tensors = attention_tensors(args);

  params.num_kv_heads = static_cast<std::int32_t>(plan.shape.num_kv_heads);
  params.group = static_cast<std::int32_t>(sizes.group);
  params.group_factor = ((1 << kGroupShift) + params.group - 1) / params.group;
  // Without a page there is no row that could be read in place of one that does not exist.
  const std::int64_t capacity =
      params.tensors.kv.map.num_pages > 0 ? params.tensors.kv.map.capacity() : 0;
  params.max_seq_len = saturated(std::min(plan.shape.max_seq_len, capacity));
  params.logits = logit_scale(plan, args);
  params.search = make_search_plan(config, plan.shape.max_seq_len);
  set_landmarks(plan, args, params.landmarks);
  params.last_stage = params.search.stages[std::max(params.search.num_stages - 1, 0)];

  if (args.selection_out) params.selection_out = selection_params(*args.selection_out);
  if (args.selection) params.selection_in = selection_params(*args.selection);
  if (args.cache && params.search.num_stages > 0) {
    params.cache = {
        static_cast<std::int32_t*>(args.cache->data),
        static_cast<std::uint32_t>(plan.selection_cache_slot_bytes / sizeof(std::int32_t)),
        static_cast<std::uint32_t>(params.search.cache_entry_words),
        static_cast<std::uint32_t>(saturated(args.cache->num_slots)),
        args.cache->refresh_from.data,
        args.cache->slots ? args.cache->slots->data : nullptr};
  }
  params.attends_to_cache = attends_to_cache(params);
  params.keys_at_once = keys_at_once(plan, schedule, params);
  if (args.counters) params.counters = counters_of(*args.counters, config, params.search);

  return params;
}

}  // namespace decode_launch

template <typename Traits>
Status plan_decode(AttentionPlan& plan) {
  return decode_launch::make_schedule<Traits>(plan);
}

template <typename Traits, Element T>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, StoredOf<Traits>>& args,
                  std::byte* workspace, Stream stream) {
  if (args.seq_lens.sizes[0] == 0 || args.out.sizes[0] == 0) return {};
  const DeviceGuard guard(plan.shape.device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "run_decode");
  const DecodeSchedule schedule = decode_schedule(plan);
  const auto params = decode_launch::make_params<Traits>(plan, schedule, args, workspace);
  if (!schedule.clusters && schedule.team_size > 1) {
    const cudaError_t error =
        cudaMemsetAsync(params.arrivals, 0, schedule.num_teams * sizeof(std::uint32_t), stream);
    if (error != cudaSuccess) return to_status(error, "run_decode");
  }
  std::array<cudaLaunchAttribute, 2> attributes;
  const cudaLaunchConfig_t config =
      decode_launch::launch_config(plan, schedule, params.tensors.batch, attributes, stream);
  const auto& kernels = decode_launch::kernels_of<Traits>(params.search);
  const auto kernel = !schedule.clusters        ? kernels.grid
                      : params.keys_at_once > 0 ? kernels.cluster_at_once
                                                : kernels.cluster;
  return to_status(cudaLaunchKernelEx(&config, kernel, params), "run_decode");
}

}  // namespace hip_attn::cuda
