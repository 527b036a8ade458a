/// Choosing the next token from its logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "llama_config.hpp"

namespace llama {

struct SamplingOptions {
  double temperature = 0;  ///< 0: always the likeliest token
  std::int64_t top_k = 0;  ///< only the k likeliest tokens; 0: all
  double top_p = 1;        ///< only the likeliest tokens that together reach this probability
  std::uint64_t seed = 0;
};

/// The likeliest token; the lowest id of equals.
TokenId argmax(std::span<const float> logits);

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}
  TokenId operator()(std::span<const float> logits);

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace llama
