#include "selection_log.hpp"

#include <algorithm>

#include "query_blocks.hpp"

namespace llama {

SelectionObserver log_selections(std::vector<SelectionEntry>& log) {
  return [&log](std::int64_t layer, const Batch& batch, const hip_attn::HipConfig& config,
                const hip_attn::ConstBlockSelection& selection) {
    for_each_query_block(batch, config, [&](std::int64_t row, std::int64_t b, std::int64_t p0) {
      const std::int64_t block_end =
          batch.phase == Phase::kDecode ? p0 + 1 : (p0 / config.block_q + 1) * config.block_q;
      for (std::int64_t head = 0; head < selection.counts.sizes[1]; ++head) {
        const std::int32_t* blocks = &selection.blocks(row, head, 0);
        log.push_back({layer, head, b, p0, std::min<std::int64_t>(block_end, batch.seq_lens[b]),
                       config.sink, selection.window_start(row, head), config.block_k(),
                       std::vector(blocks, blocks + selection.counts(row, head))});
      }
    });
  };
}

}  // namespace llama
