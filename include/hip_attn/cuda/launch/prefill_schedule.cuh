/// Chooses the kernels of a prefill for a plan and a device, and readies them.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "hip_attn/cuda/attend/sm80/kernel.cuh"
#include "hip_attn/cuda/launch/attend_sm90.cuh"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/prefill_searches.cuh"
#include "hip_attn/cuda/launch/schedule.hpp"

namespace hip_attn::cuda {
namespace prefill_launch {

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

}  // namespace prefill_launch
}  // namespace hip_attn::cuda
