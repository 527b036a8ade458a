/// Asynchronous copies from global to shared memory (sm_80 and newer).
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

/// Copies `bytes`, up to 16, to shared memory and fills 16 up with zeros, without waiting.
__device__ inline void copy_async_part(std::uint32_t to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

/// Copies 16 bytes to shared memory, or writes zeros when `valid` is false, without waiting.
__device__ inline void copy_async_16(std::uint32_t to, const void* from, bool valid) {
  copy_async_part(to, from, valid ? 16 : 0);
}

__device__ inline void copy_async_16(std::uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/// Closes this thread's group of copies; a group may be empty.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits for all of this thread's groups but the `kPending` latest.
template <int kPending>
__device__ inline void wait_for_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Waits for this thread's copies.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Arrives at a barrier in shared memory for this thread once all copies that it has started so far
/// are done, without waiting.
__device__ inline void arrive_after_copies(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

}  // namespace hip_attn::cuda
