// One request with exactly representable queries and keys, and attention over it in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "hip_attn/attention.hpp"

// The library is never built for it.
inline constexpr std::int64_t kHeadDim = 80;
inline constexpr std::int64_t kQueryHeads = 4;
inline constexpr std::int64_t kKvHeads = 2;
inline constexpr std::int64_t kGroup = kQueryHeads / kKvHeads;

// Sums of products of quarters are exact in fp32: a search has one right answer.
template <hip_attn::Element C>
struct Problem {
  Problem(std::int64_t rows, std::int64_t keys) : num_rows(rows), num_keys(keys) {
    std::uint32_t state = 1;
    const auto quarters = [&state] {
      state = state * 1664525u + 1013904223u;
      return static_cast<float>(static_cast<int>(state >> 24) % 9 - 4) / 4.f;
    };
    for (std::int64_t i = 0; i < rows * kQueryHeads * kHeadDim; ++i) q.push_back(quarters());
    for (std::int64_t i = 0; i < keys * kKvHeads * kHeadDim; ++i) {
      k.push_back(hip_attn::from_float<C>(quarters()));
      v.push_back(hip_attn::from_float<C>(quarters()));
    }
  }

  [[nodiscard]] std::int64_t position(std::int64_t row) const { return num_keys - num_rows + row; }

  [[nodiscard]] double product(std::int64_t row, std::int64_t q_head, std::int64_t key) const {
    double sum = 0;
    for (std::int64_t d = 0; d < kHeadDim; ++d) {
      sum += double{q[(row * kQueryHeads + q_head) * kHeadDim + d]} *
             hip_attn::to_float(k[(key * kKvHeads + q_head / kGroup) * kHeadDim + d]);
    }
    return sum;
  }

  std::int64_t num_rows;  // the latest of num_keys positions
  std::int64_t num_keys;
  std::vector<float> q;  // [rows, Hq, D]
  std::vector<C> k, v;   // [keys, Hk, D]
};

// The largest difference of a row's outputs and lse from attention to `keys` in float64.
template <hip_attn::Element C>
double row_error(const Problem<C>& problem, std::int64_t row, std::int64_t q_head,
                 const std::vector<std::int64_t>& keys, const float* out, float lse) {
  std::vector<double> logits;
  for (const std::int64_t key : keys) {
    logits.push_back(problem.product(row, q_head, key) / std::sqrt(double{kHeadDim}));
  }
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - max);
  double error = std::abs(lse - (max + std::log(sum)));
  for (std::int64_t d = 0; d < kHeadDim; ++d) {
    double expected = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      expected +=
          std::exp(logits[i] - max) / sum *
          hip_attn::to_float(problem.v[(keys[i] * kKvHeads + q_head / kGroup) * kHeadDim + d]);
    }
    error = std::max(error, std::abs(out[d] - expected));
  }
  return error;
}
