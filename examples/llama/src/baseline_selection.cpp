#include "baseline_selection.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "query_blocks.hpp"

namespace llama {
namespace {

/// `count` distinct numbers of [first, first + size), ascending, or all of them.
void draw_distinct(std::mt19937_64& random, std::int32_t first, std::int64_t size,
                   std::int64_t count, std::int32_t* drawn) {
  std::vector<std::int32_t> all(size);
  std::iota(all.begin(), all.end(), first);
  std::sample(all.begin(), all.end(), drawn, count, random);  // keeps the order of `all`
}

}  // namespace

void fill_baseline_selection(AttentionMode mode, std::uint64_t seed, std::int64_t layer,
                             const Batch& batch, const hip_attn::AttentionPlan& plan,
                             const hip_attn::BlockSelection& selection) {
  const hip_attn::HipConfig& config = plan.config;
  const std::int64_t keep = config.stages.back().keep;
  const std::int32_t block_k = config.block_k();
  const std::int64_t num_kv_heads = selection.counts.sizes[1];
  for_each_query_block(batch, config, [&](std::int64_t row, std::int64_t b, std::int64_t p0) {
    for (std::int64_t head = 0; head < num_kv_heads; ++head) {
      if (p0 < plan.dense_until) {
        selection.counts(row, head) = 0;
        selection.window_start(row, head) = static_cast<std::int32_t>(config.sink);
        continue;
      }
      std::int64_t window = config.window;
      std::int64_t count = 0;
      if (mode == AttentionMode::kWindow) {
        window += keep;
      } else {
        const std::int64_t candidates = hip_attn::window_start(config, p0) - config.sink;
        count = std::min(keep, candidates) / block_k;
        std::seed_seq words{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(layer),
                            static_cast<std::uint32_t>(batch.slots[b]),
                            static_cast<std::uint32_t>(p0), static_cast<std::uint32_t>(head)};
        std::mt19937_64 random(words);
        draw_distinct(random, static_cast<std::int32_t>(config.sink / block_k),
                      candidates / block_k, count, &selection.blocks(row, head, 0));
      }
      selection.counts(row, head) = static_cast<std::int32_t>(count);
      selection.window_start(row, head) =
          static_cast<std::int32_t>(hip_attn::window_start(config.sink, window, block_k, p0));
    }
  });
}

}  // namespace llama
