#include "batch.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "error.hpp"

namespace llama {

Batch make_batch(Phase phase, std::span<const BatchEntry> entries) {
  Batch batch;
  batch.phase = phase;
  batch.cu_seqlens_q.push_back(0);
  for (const auto& [sequence, tokens] : entries) {
    const std::int64_t first = sequence->size();
    sequence->grow(static_cast<std::int64_t>(tokens.size()));
    for (std::int64_t position = first; position < sequence->size(); ++position) {
      batch.positions.push_back(static_cast<std::int32_t>(position));
      batch.slot_mapping.push_back(sequence->cache_slot(position));
    }
    batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end());
    batch.seq_lens.push_back(static_cast<std::int32_t>(sequence->size()));
    batch.cu_seqlens_q.push_back(static_cast<std::int32_t>(batch.tokens.size()));
    batch.slots.push_back(sequence->slot());
    batch.decode_steps.push_back(sequence->decode_steps);
    if (phase == Phase::kDecode) ++sequence->decode_steps;
    batch.max_pages =
        std::max(batch.max_pages, static_cast<std::int64_t>(sequence->pages().size()));
  }
  // Entries past a sequence's last page are never read.
  batch.block_table.resize(batch.size() * batch.max_pages, -1);
  for (std::int64_t b = 0; b < batch.size(); ++b) {
    const auto pages = entries[b].sequence->pages();
    std::copy(pages.begin(), pages.end(), batch.block_table.begin() + b * batch.max_pages);
  }
  return batch;
}

void BatchLimits::check(const Batch& batch) const {
  const auto require = [](const char* what, std::int64_t value, std::int64_t limit) {
    if (value <= limit) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a batch has {} {}; the engine was made for {}", value, what, limit));
  };
  require("sequences", batch.size(), sequences);
  require("rows", batch.total_q(), batch.phase == Phase::kDecode ? sequences : prefill_rows);
  for (const std::int32_t length : batch.seq_lens) require("tokens in a sequence", length, seq_len);
}

}  // namespace llama
