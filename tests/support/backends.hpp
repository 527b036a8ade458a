/// What a call on one backend has in common with the same call on another.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>

#include "call.hpp"
#include "catch.hpp"

namespace hip_attn::test {

/// Both backends round the probabilities and the output to T at different places: a few units in
/// the last place of the largest value (|v| <= 3 in these problems).
template <Element T>
float tolerance() {
  return std::same_as<T, float16> ? 6e-3f : 5e-2f;
}

/// Outputs to rounding.
template <Element T>
void require_close(const RunResult<T>& cpu, const RunResult<T>& cuda) {
  REQUIRE(cpu.out.size() == cuda.out.size());
  float worst = 0.f;
  for (std::size_t i = 0; i < cpu.out.size(); ++i) {
    const float difference = std::abs(to_float(cpu.out[i]) - to_float(cuda.out[i]));
    worst = difference <= worst ? worst : difference;  // NaN counts
  }
  CHECK(worst <= tolerance<T>());
  float worst_lse = 0.f;
  for (std::size_t i = 0; i < cpu.lse.size(); ++i) {
    if (cpu.lse[i] == cuda.lse[i]) continue;  // -inf
    const float difference = std::abs(cpu.lse[i] - cuda.lse[i]) / (1.f + std::abs(cpu.lse[i]));
    worst_lse = difference <= worst_lse ? worst_lse : difference;
  }
  CHECK(worst_lse <= 1e-5f);
}

/// Selections and counters exactly, outputs to rounding.
template <Element T>
void require_same(const RunResult<T>& cpu, const RunResult<T>& cuda) {
  CHECK(cpu.selection.counts == cuda.selection.counts);
  CHECK(cpu.selection.window_start == cuda.selection.window_start);
  CHECK(cpu.selection.blocks == cuda.selection.blocks);
  CHECK(cpu.counters == cuda.counters);
  require_close(cpu, cuda);
}

}  // namespace hip_attn::test
