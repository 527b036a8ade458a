/// Stage "select": keeps the best-scoring chunks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "hip_attn/language.hpp"

namespace hip_attn::cpu {

/// Keeps the `keep` highest of `count` scores (equal scores: the lower position), compacting
/// `starts` in place in ascending order. scratch: [count]. Requires keep < count; returns keep.
/// Cost O(count).
inline std::int64_t select_chunks(std::int32_t* starts, const float* scores, std::int64_t count,
                                  std::int64_t keep, float* scratch) {
  std::copy(scores, scores + count, scratch);
  std::nth_element(scratch, scratch + (keep - 1), scratch + count, std::greater<float>());
  const float threshold = scratch[keep - 1];
  // nth_element leaves the scores above the threshold in front of it.
  std::int64_t at_threshold =
      keep - std::count_if(scratch, scratch + keep,
                           [threshold](float score) { return score > threshold; });
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool survives = scores[i] > threshold || (scores[i] == threshold && at_threshold-- > 0);
    if (survives) starts[kept++] = starts[i];
  }
  return kept;
}

}  // namespace hip_attn::cpu
