/// A scorer without any tensor: keys score what a function of their position says.
#pragma once

#include <cstdint>

namespace hip_attn::test {

/// score_keys(positions, n, a) writes the largest product of each key.
template <typename ScoreKeys>
struct KeyScorer {
  ScoreKeys score_keys;

  void maxima(const std::int32_t* positions, int n, float* a) const { score_keys(positions, n, a); }
};
template <typename ScoreKeys>
KeyScorer(ScoreKeys) -> KeyScorer<ScoreKeys>;

}  // namespace hip_attn::test
