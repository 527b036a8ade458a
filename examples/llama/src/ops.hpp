/// The float32 arithmetic of a Llama block, over rows of activations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "weights.hpp"

namespace llama {

/// y [rows, weight.rows] = x [rows, weight.cols] * weight^T; with `accumulate`, added to y.
void linear(std::span<const float> x, const Matrix& weight, std::span<float> y,
            bool accumulate = false);

/// y = x / rms(x) * gain, row by row of gain.size().
void rms_norm(std::span<const float> x, std::span<const float> gain, float eps, std::span<float> y);

/// The cosines and sines that turn the rows of a batch, shared by all layers and heads.
class RotaryTable {
 public:
  RotaryTable(std::span<const std::int32_t> positions, std::span<const float> frequencies);

  /// Turns x [rows, heads, head_dim] in place. Dimensions i and i + head_dim / 2 are a pair, as in
  /// Hugging Face checkpoints.
  void apply(std::span<float> x) const;

 private:
  std::int64_t rows_;
  std::int64_t half_;
  std::vector<float> cosines_;  // [rows, head_dim / 2]
  std::vector<float> sines_;
};

/// gate = silu(gate) * up.
void swiglu(std::span<float> gate, std::span<const float> up);

/// -log softmax(logits)[target], of one row.
double negative_log_likelihood(std::span<const float> logits, std::int64_t target);

}  // namespace llama
