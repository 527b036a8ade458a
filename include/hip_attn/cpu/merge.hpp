/// Stage "combine" on the CPU: partial softmax states into one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hip_attn/merge.hpp"

namespace hip_attn::cpu {

/// Elements that are summed side by side; every built head dim is a multiple of it.
inline constexpr std::int64_t kMergeElements = 32;

/// One row (query row, head) of merge_states.
template <Element T>
void merge_row(const MergeStatesArgs<T>& args, std::int64_t row, std::int64_t head) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  const std::int64_t parts = args.partial_out.sizes[0];
  float max = kNothing;
  for (std::int64_t i = 0; i < parts; ++i) max = std::max(max, args.partial_lse(i, row, head));

  float sum = 0.f;
  for (std::int64_t first = 0; first < args.out.sizes[2]; first += kMergeElements) {
    float weighted[kMergeElements] = {};
    sum = 0.f;
    for (std::int64_t i = 0; i < parts; ++i) {
      const float lse = args.partial_lse(i, row, head);
      if (lse == kNothing) continue;
      const float weight = std::exp(lse - max);
      const T* part = &args.partial_out(i, row, head, first);
      for (std::int64_t d = 0; d < kMergeElements; ++d) weighted[d] += weight * to_float(part[d]);
      sum += weight;
    }
    T* out = &args.out(row, head, first);
    for (std::int64_t d = 0; d < kMergeElements; ++d) {
      out[d] = from_float<T>(sum == 0.f ? 0.f : weighted[d] / sum);
    }
  }
  if (args.lse) (*args.lse)(row, head) = sum == 0.f ? kNothing : max + std::log(sum);
}

}  // namespace hip_attn::cpu
