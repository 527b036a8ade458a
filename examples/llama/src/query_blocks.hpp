/// The query blocks of a batch: the rows that share one selection.
#pragma once

#include <algorithm>
#include <cstdint>

#include "batch.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/selection.hpp"

namespace llama {

/// Calls visit(row, b, p0): the block's row in a BlockSelection, its sequence, and the position of
/// its first query.
template <typename Visit>
void for_each_query_block(const Batch& batch, const hip_attn::HipConfig& config, Visit&& visit) {
  for (std::int64_t b = 0; b < batch.size(); ++b) {
    const std::int64_t first = batch.first_position(b);
    if (batch.phase == Phase::kDecode) {
      visit(b, b, first);
      continue;
    }
    // Blocks are anchored at absolute positions, so the first one may be a part of a block.
    const std::int64_t first_block = first / config.block_q;
    for (std::int64_t n = 0; (first_block + n) * config.block_q < batch.seq_lens[b]; ++n) {
      const std::int64_t row = hip_attn::selection_row(batch.cu_seqlens_q[b], b, n, config.block_q);
      visit(row, b, std::max(first, (first_block + n) * config.block_q));
    }
  }
}

}  // namespace llama
