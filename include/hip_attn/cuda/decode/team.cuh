/// Thread blocks that work on one unit together: they meet at barriers and send one another floats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/params.hpp"
#include "hip_attn/cuda/ptx/dependent_launch.cuh"
#include "hip_attn/cuda/ptx/register.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"

namespace hip_attn::cuda {

/// A thread-block cluster (sm_90): the hardware schedules it whole and synchronises it in well
/// under a microsecond. Block (x, y, z) is block x of the team of KV head y, request z. Global
/// memory written before sync() is visible after it.
///
/// What is sent goes straight into the receiver's shared memory and counts down a barrier there, so
/// that the receiver waits for data and nobody for a fence.
class ClusterTeam {
 public:
  /// q and out are of the type of the products: to ask whether they are floats costs steps of the
  /// cluster kernels up to 3 % (H200, docs/lab/decode.md).
  static constexpr bool kFloatRows = false;

  /// Whether the architecture being compiled has clusters. Kernels for others are never launched,
  /// and empty.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  static constexpr bool kIsBuilt = true;
#else
  static constexpr bool kIsBuilt = false;
#endif

  __device__ void sync() {
    await_blocks();
    asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
  }

  /// `memory`: the block's shared memory.
  template <typename T>
  __device__ ClusterTeam(const DecodeParams<T>& params, std::byte* memory)
      : inbox_(reinterpret_cast<float*>(memory + params.layout.inbox)),
        barrier_(shared_address(memory + params.layout.barrier)),
        upstream_(shared_address(memory + params.layout.upstream)) {
    if (threadIdx.x == 0) {
      init_barrier(barrier_);
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  }

  /// Waits for the upstream kernel, which may still run (programmatic dependent launch). Nothing
  /// that another kernel writes is touched before.
  template <typename T>
  __device__ void wait_for_upstream(const DecodeParams<T>& params) const {
    read_parameters_ahead(params);
    asm volatile("griddepcontrol.wait;" ::: "memory");
    // A downstream kernel waits for the end of this one just as well.
    launch_dependents();
  }

  /// The same, while the last kAheadWarps warps look ahead: look_ahead() returns soon after
  /// upstream_has_ended(), and takes what another kernel may write for hints.
  template <typename T, typename LookAhead>
  __device__ void wait_for_upstream(const DecodeParams<T>& params,
                                    const LookAhead& look_ahead) const {
    if (threadIdx.x == 0) init_barrier(upstream_);
    __syncthreads();
    read_parameters_ahead(params);
    look_ahead();
    __syncwarp();
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (threadIdx.x == 0) {
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(upstream_) : "memory");
    }
    launch_dependents();
  }
  __device__ bool upstream_has_ended() const {
    std::uint32_t ended;
    asm volatile(
        "{\n"
        " .reg .pred p;\n"
        " mbarrier.test_wait.parity.shared::cta.b64 p, [%1], 0;\n"
        " selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(ended)
        : "r"(upstream_)
        : "memory");
    return ended != 0;
  }

  /// All blocks of the team run, and can be sent to, when it returns; by the whole block.
  __device__ void await_blocks() {
    if (blocks_run_) return;
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
    blocks_run_ = true;
  }

  /// Announces the bytes that this block will be sent until the next receive(); by one thread.
  __device__ void expect(int bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_),
                 "r"(bytes)
                 : "memory");
  }

  /// inbox[at] of block `to`.
  struct Mailbox {
    std::uint32_t address;
    std::uint32_t barrier;
  };
  __device__ Mailbox mailbox(int to, int at) const {
    Mailbox box;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(box.address)
                 : "r"(shared_address(inbox_ + at)), "r"(to));
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(box.barrier)
                 : "r"(barrier_), "r"(to));
    return box;
  }

  __device__ static void send(Mailbox to, float4 v) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%2,%3,%4,%5}, "
        "[%1];" ::"r"(to.address),
        "r"(to.barrier), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
        : "memory");
  }
  __device__ static void send(Mailbox to, float2 v) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%2,%3}, "
        "[%1];" ::"r"(to.address),
        "r"(to.barrier), "f"(v.x), "f"(v.y)
        : "memory");
  }

  /// Waits for all that was announced.
  __device__ void receive() {
    std::uint32_t done = 0;
    while (!done) {
      asm volatile(
          "{\n"
          " .reg .pred p;\n"
          " mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
          " selp.u32 %0, 1, 0, p;\n"
          "}"
          : "=r"(done)
          : "r"(barrier_), "r"(parity_)
          : "memory");
    }
    parity_ ^= 1;
  }
  __device__ int size() const { return size_; }
  __device__ int rank() const { return rank_; }

  /// value = inbox[at] where `wanted`.
  template <typename V>
  __device__ void read(V& value, int at, bool wanted) const {
    read_shared(value, shared_address(inbox_ + at), wanted);
  }

  /// Calls visit(team number, request, KV head) for the team's units, which is one.
  template <typename T, typename Visit>
  __device__ void for_each_unit(const DecodeParams<T>&, Visit&& visit) {
    visit(static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y), static_cast<int>(blockIdx.z),
          static_cast<int>(blockIdx.y));
  }

 private:
  /// For one arrival.
  __device__ static void init_barrier(std::uint32_t barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
  }

  /// Has one warp ask for the lines of constant memory that hold the parameters, all at once and
  /// while the upstream kernel runs. That warp waits for them, so the block meets before, not
  /// behind.
  template <typename T>
  __device__ void read_parameters_ahead(const DecodeParams<T>& params) const {
    if (threadIdx.x != kFirstAheadThread - 1) return;
    const auto* const words = reinterpret_cast<const std::int32_t*>(&params);
    constexpr int kLine = 64 / sizeof(std::int32_t);
    constexpr int kLines = (offsetof(DecodeParams<T>, search) + offsetof(SearchPlan, stages)) / 64;
    std::int32_t all = 0;
#pragma unroll
    for (int i = 0; i < kLines; ++i) all ^= words[i * kLine];
    std::byte* const memory = reinterpret_cast<std::byte*>(inbox_) - params.layout.inbox;
    *reinterpret_cast<volatile std::int32_t*>(memory + params.layout.unread) = all;
  }

  int size_ = in_register(static_cast<int>(gridDim.x));
  int rank_ = in_register(static_cast<int>(blockIdx.x));
  float* inbox_;
  std::uint32_t barrier_ = 0;
  std::uint32_t upstream_ = 0;
  std::uint32_t parity_ = 0;
  bool blocks_run_ = false;
};

/// Blocks of a cooperative launch (any architecture), which are all resident, so that waiting for
/// one another cannot deadlock. They meet at a counter in memory and send through the workspace.
class GridTeam {
 public:
  static constexpr bool kFloatRows = true;  ///< q and out may be floats
  static constexpr bool kIsBuilt = true;

  template <typename T>
  __device__ GridTeam(const DecodeParams<T>& params, std::byte*)
      : size_(params.team_size),
        number_(static_cast<int>(blockIdx.x) / size_),
        rank_(static_cast<int>(blockIdx.x) % size_),
        arrivals_(params.arrivals + number_),
        inboxes_(params.exchange + std::int64_t{number_} * size_ * params.exchange_floats),
        pitch_(params.exchange_floats) {}

  template <typename T>
  __device__ static void wait_for_upstream(const DecodeParams<T>&) {}  // has ended

  __device__ int size() const { return size_; }
  __device__ int rank() const { return rank_; }

  __device__ void sync() {
    if (size_ == 1) return __syncthreads();
    expected_ += static_cast<std::uint32_t>(size_);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicAdd(arrivals_, 1u);
      while (*reinterpret_cast<volatile std::uint32_t*>(arrivals_) < expected_) {
      }
      __threadfence();
    }
    __syncthreads();
  }

  __device__ void await_blocks() const {}
  __device__ void expect(int) const {}
  using Mailbox = float*;
  __device__ Mailbox mailbox(int to, int at) const {
    return inboxes_ + std::int64_t{to} * pitch_ + at;
  }
  template <typename V>
  __device__ static void send(Mailbox to, V value) {
    *reinterpret_cast<V*>(to) = value;
  }
  __device__ void receive() { sync(); }
  /// Written by other blocks: past this multiprocessor's L1.
  template <typename V>
  __device__ void read(V& value, int at, bool wanted) const {
    if (!wanted) return;
    value = __ldcg(reinterpret_cast<const V*>(inboxes_ + std::int64_t{rank_} * pitch_ + at));
  }

  template <typename T, typename Visit>
  __device__ void for_each_unit(const DecodeParams<T>& params, Visit&& visit) {
    const int teams = static_cast<int>(gridDim.x) / size_;
    const int units = params.tensors.batch * params.num_kv_heads;
#pragma unroll 1
    for (int unit = number_; unit < units; unit += teams) {
      visit(number_, unit / params.num_kv_heads, unit % params.num_kv_heads);
      // The next unit writes where others may still read.
      if (unit + teams < units) sync();
    }
  }

 private:
  int size_;
  int number_;
  int rank_;
  std::uint32_t* arrivals_;
  float* inboxes_;
  std::int32_t pitch_;
  std::uint32_t expected_ = 0;
};

}  // namespace hip_attn::cuda
