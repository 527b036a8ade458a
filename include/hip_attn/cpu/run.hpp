/// Runs calls of the CPU backend: on OpenMP's threads, or on the caller's.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <optional>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "hip_attn/cpu/attention.hpp"
#include "hip_attn/cpu/spin.hpp"
#include "hip_attn/threads.hpp"

// A program may compile one source with OpenMP and another, or the library, without. What is
// compiled differently then has two names, of which the linker keeps both.
#if defined(_OPENMP)
#define HIP_ATTN_OPENMP_NAMESPACE with_openmp
#else
#define HIP_ATTN_OPENMP_NAMESPACE without_openmp
#endif

namespace hip_attn {

/// A part of a ThreadTeam's call, from its arrival until it leaves.
class ThreadTeamPart {
 public:
  /// The first part to arrive prepares the call: prepare(call) -> Status, where `call` is a void*&.
  template <typename Prepare>
  ThreadTeamPart(ThreadTeam& team, int part, Prepare&& prepare) : team_(team) {
    cpu::Spin spin;
    std::uint64_t& joined = team.joined_[static_cast<std::size_t>(part)];
    while (team.calls_.load(std::memory_order_acquire) != joined) spin.wait();
    ++joined;
    if (!team.claimed_.exchange(true, std::memory_order_acquire)) {
      team.status_ = prepare(team.call_);
      team.ready_.store(true, std::memory_order_release);
    }
    while (!team.ready_.load(std::memory_order_acquire)) spin.wait();
  }
  ThreadTeamPart(const ThreadTeamPart&) = delete;
  ThreadTeamPart& operator=(const ThreadTeamPart&) = delete;

  /// The last to leave readies the team for its next call.
  ~ThreadTeamPart() {
    if (team_.left_.fetch_add(1, std::memory_order_acq_rel) + 1 < team_.size_) return;
    team_.status_ = {};
    team_.call_ = nullptr;
    team_.left_.store(0, std::memory_order_relaxed);
    team_.ready_.store(false, std::memory_order_relaxed);
    team_.claimed_.store(false, std::memory_order_relaxed);
    team_.calls_.fetch_add(1, std::memory_order_release);
  }

  [[nodiscard]] const Status& status() const noexcept { return team_.status_; }
  [[nodiscard]] void* call() const noexcept { return team_.call_; }

 private:
  ThreadTeam& team_;
};

namespace cpu {
inline namespace HIP_ATTN_OPENMP_NAMESPACE {

/// Threads that a call made here gets. Inside a parallel region that is mostly this one alone.
inline int max_threads() noexcept {
#if defined(_OPENMP)
  if (omp_get_active_level() >= omp_get_max_active_levels()) return 1;
  return std::min(omp_get_max_threads(), omp_get_thread_limit());
#else
  return 1;
#endif
}

/// Completes a plan that detail::begin_plan() has begun.
inline void finish_plan(AttentionPlan& plan) noexcept {
  plan.num_threads = plan.shape.num_threads > 0 ? plan.shape.num_threads : max_threads();
  plan.workspace_bytes = workspace_bytes(plan);
}

/// Runs a checked call. A value in device memory that does not hold is left in the error.
template <typename Traits, Element T, StoredFor<T> C>
CallError run_attention(const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                        std::byte* memory) {
  auto& call = Call<Traits, T, C>::make(plan, args, memory);
#if defined(_OPENMP)
#pragma omp parallel num_threads(call.useful_threads())
  call.work(omp_get_thread_num());
#else
  call.work(0);
#endif
  return call.error();
}

}  // namespace HIP_ATTN_OPENMP_NAMESPACE
}  // namespace cpu
}  // namespace hip_attn
