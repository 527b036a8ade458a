/// Waiting for another thread that is at work.
#pragma once

#include <thread>

#include "hip_attn/language.hpp"

namespace hip_attn::cpu {

/// Waits a moment; after some of them the processor goes to whoever else wants it.
class Spin {
 public:
  void wait() noexcept {
    if (++rounds_ > kRoundsBeforeYield) return std::this_thread::yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

 private:
  static constexpr int kRoundsBeforeYield = 200;  // some 5 us
  int rounds_ = 0;
};

}  // namespace hip_attn::cpu
