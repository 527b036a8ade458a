/// Attention of prefill on sm_90a. One block takes units (query block, KV head) one after the
/// other: a producer warp gathers their keys and values ahead, consumer warpgroups multiply.
/// Why it is shaped so, and its times: docs/kernels/prefill-attend.md.
#pragma once

#include "hip_attn/cuda/attend/sm90/consumer.cuh"
#include "hip_attn/cuda/attend/sm90/producer.cuh"
#include "hip_attn/cuda/ptx/dependent_launch.cuh"

namespace hip_attn::cuda::sm90 {

template <typename Traits, int kWarpgroups, int kTiles, bool kRowWindows>
__global__ void __launch_bounds__(
    AttendPolicy<Traits::kHeadDim, kWarpgroups, kTiles, kRowWindows>::kThreads,
    AttendPolicy<Traits::kHeadDim, kWarpgroups, kTiles, kRowWindows>::kBlocksPerMultiprocessor)
    attend_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
#if HIP_ATTN_SM90A
  using Policy = AttendPolicy<Traits::kHeadDim, kWarpgroups, kTiles, kRowWindows>;
  extern __shared__ __align__(1024) std::byte memory[];
  auto& shared = *reinterpret_cast<AttendShared<Policy>*>(memory);
  if (threadIdx.x == 0) {
    constexpr int kConsumerWarps = kWarpgroups * 4;
    for (int i = 0; i < Policy::kSlots; ++i) {
      init(shared.slot_full[i], kProducerWarps * 32);
      init(shared.slot_empty[i], kConsumerWarps);
    }
    for (int i = 0; i < kUnitsAhead; ++i) {
      init(shared.unit_full[i], 1);
      init(shared.unit_empty[i], kConsumerWarps * 32);
    }
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroups * kWarpgroupThreads) {
    if constexpr (Policy::kShiftRegisters) {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Policy::kConsumerRegisters));
    }
    AttendConsumer<Traits, kTiles, Policy>(params, shared).run();
  } else {
    if constexpr (Policy::kShiftRegisters) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Policy::kProducerRegisters));
    }
    AttendProducer<Traits, Policy>(params, shared).run();
    wait_for_upstream_kernel();  // which may be a Companion: this one ends last
  }
#else
  __trap();  // compiled for every architecture, launched on none but sm_90
#endif
}

}  // namespace hip_attn::cuda::sm90
