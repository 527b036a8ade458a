/// How much of what every key would have been to a row lies in what the row attends to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention.hpp"
#include "kv_cache.hpp"
#include "llama_config.hpp"

namespace llama {

/// Means over the sampled rows, [num_layers][num_q_heads]. Layers that leave no key out have 1.
struct AttentionQuality {
  using ByHead = std::vector<std::vector<double>>;
  /// The share of the row's attention mass over every key that the attended keys have:
  /// exp(lse - dense_lse).
  ByHead mass;
  /// The share of the top_keys keys of the largest logits that are attended; of all keys where the
  /// row has no more. Keys of one logit stand in for each other.
  ByHead top;
};

struct HeadShare {
  std::int64_t layer;
  std::int64_t head;
  double share;
};

double mean_share(const AttentionQuality::ByHead& shares);
HeadShare least_share(const AttentionQuality::ByHead& shares);

/// Of samples of one sequence, whose keys are still in the cache. Scores every key before a row on
/// the host.
AttentionQuality rate_attention(std::span<const AttentionSample> samples, const LlamaConfig& model,
                                Attention& attention, const Sequence& sequence,
                                std::int64_t top_keys);

}  // namespace llama
