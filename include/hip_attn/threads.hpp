/// Threads of the caller that run one call of the CPU backend together.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "hip_attn/status.hpp"

namespace hip_attn {

/// For engines with threads of their own: a call of run_prefill or run_decode in size() parts,
/// which get the same plan, arguments, workspace and team, and each its number. Each part returns
/// when the call is complete, with its Status; the result is that of one call to the bit.
///
/// Parts may run on as many threads, or be tasks of a pool of fewer, or follow one another on a
/// single one: a part waits for work that another has begun, never for a part that has not come.
/// Only the next call of a team waits until all parts of the one before have come and gone. Until
/// then the workspace belongs to that call.
class ThreadTeam {
 public:
  /// size: 1 to AttentionPlan::num_threads of the plans that it will run.
  explicit ThreadTeam(int size)
      : size_(size),
        joined_(std::make_unique<std::uint64_t[]>(static_cast<std::size_t>(std::max(size, 0)))) {}
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  [[nodiscard]] int size() const noexcept { return size_; }

 private:
  friend class ThreadTeamPart;

  int size_;
  std::unique_ptr<std::uint64_t[]> joined_;  ///< [size] calls that each part has joined
  std::atomic<std::uint64_t> calls_ = 0;     ///< that all parts have left
  std::atomic<int> left_ = 0;                ///< of the call at work
  std::atomic<bool> claimed_ = false;        ///< a part prepares the call, or has
  std::atomic<bool> ready_ = false;
  void* call_ = nullptr;
  Status status_;
};

}  // namespace hip_attn
