/// Programmatic dependent launch: a kernel and the next one in its stream (sm_90 and newer).
#pragma once

namespace hip_attn::cuda {

/// The next kernel may start now; it waits for the end of this one where it must.
__device__ inline void launch_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Waits for the end of the kernel before this one in the stream. Returns at once where this one
/// was not let start before.
__device__ inline void wait_for_upstream_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace hip_attn::cuda
