/// A scorer of one row without any tensor: keys, and landmarks by the first key of their chunk,
/// score what a function of their position says.
#pragma once

#include <cstdint>

namespace hip_attn::test {

/// score_keys(positions, n, a) writes the product of each key.
template <typename ScoreKeys>
struct KeyScorer {
  ScoreKeys score_keys;

  [[nodiscard]] std::int64_t num_rows() const { return 1; }
  void maxima(const std::int32_t* positions, int n, float* a) const { score_keys(positions, n, a); }
  void products(const std::int32_t* positions, int n, float* a) const {
    score_keys(positions, n, a);
  }
  void landmark_products(const std::int32_t* first_keys, int n, float* a) const {
    score_keys(first_keys, n, a);
  }
};
template <typename ScoreKeys>
KeyScorer(ScoreKeys) -> KeyScorer<ScoreKeys>;

}  // namespace hip_attn::test
