/// How threads share out the pieces of units, without waiting for a thread that may never come.
#pragma once

#include <atomic>
#include <cstdint>

#include "hip_attn/language.hpp"

namespace hip_attn::cpu {

/// The pieces of one phase of a unit. Whoever finishes the last of them begins the next phase.
class alignas(64) PieceCounter {
 public:
  /// Takes a piece; -1: none is left to take.
  std::int64_t take() noexcept {
    std::uint64_t now = state_.load(std::memory_order_acquire);
    for (;;) {
      const std::uint64_t next = now >> 32;
      if (next >= (now & 0xffffffffu)) return -1;
      if (state_.compare_exchange_weak(now, now + (std::uint64_t{1} << 32),
                                       std::memory_order_acquire)) {
        return static_cast<std::int64_t>(next);
      }
    }
  }

  /// Returns whether all pieces are finished now: true for exactly one thread.
  bool finish() noexcept {
    const std::uint64_t count = state_.load(std::memory_order_relaxed) & 0xffffffffu;
    return finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == count;
  }

  /// Offers the pieces of a phase, by the thread for which finish() was true.
  void offer(std::int64_t count) noexcept {
    finished_.store(0, std::memory_order_relaxed);
    state_.store(static_cast<std::uint64_t>(count), std::memory_order_release);
  }

 private:
  std::atomic<std::uint64_t> state_ = 0;  ///< next piece << 32 | number of pieces
  std::atomic<std::uint64_t> finished_ = 0;
};

}  // namespace hip_attn::cpu
