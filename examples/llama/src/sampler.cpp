#include "sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace llama {

TokenId argmax(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TokenId Sampler::operator()(std::span<const float> logits) {
  if (options_.temperature <= 0) return argmax(logits);

  std::vector<TokenId> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  std::stable_sort(tokens.begin(), tokens.end(),
                   [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
  if (options_.top_k > 0 && options_.top_k < static_cast<std::int64_t>(tokens.size())) {
    tokens.resize(options_.top_k);
  }
  std::vector<double> weights;
  for (const TokenId token : tokens) {
    weights.push_back(std::exp((logits[token] - logits[tokens[0]]) / options_.temperature));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double kept = 0;
  std::size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < options_.top_p * total)) {
    kept += weights[count++];
  }
  // 53 random bits make a uniform double, the same on every platform.
  double point = static_cast<double>(random_() >> 11) * 0x1p-53 * kept;
  std::size_t chosen = 0;
  while (chosen + 1 < count && point >= weights[chosen]) point -= weights[chosen++];
  return tokens[chosen];
}

}  // namespace llama
