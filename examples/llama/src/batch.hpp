/// The rows of one forward pass, and where they stand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "hip_attn/types.hpp"
#include "kv_cache.hpp"
#include "llama_config.hpp"

namespace llama {

/// Prefill takes any number of tokens per sequence; decode takes one, and reuses selections.
enum class Phase { kPrefill, kDecode };

/// One sequence and its next tokens.
struct BatchEntry {
  Sequence* sequence;
  std::span<const TokenId> tokens;
};

/// What hip_attn needs to know of a batch, in the layout it wants; the same for every layer.
struct Batch {
  Phase phase = Phase::kPrefill;
  std::vector<TokenId> tokens;             ///< [total_q]
  std::vector<std::int32_t> positions;     ///< [total_q]
  std::vector<std::int64_t> slot_mapping;  ///< [total_q] where each token's key and value go
  std::vector<std::int32_t> seq_lens;      ///< [B] keys of each sequence, this batch's included
  std::vector<std::int32_t> cu_seqlens_q;  ///< [B + 1] first row of each sequence
  std::vector<std::int32_t> block_table;   ///< [B, max_pages]
  std::int64_t max_pages = 0;
  std::vector<std::int32_t> slots;         ///< [B] SelectionCache slots
  std::vector<std::int64_t> decode_steps;  ///< [B] decode steps before this one

  [[nodiscard]] std::int64_t size() const noexcept {
    return static_cast<std::int64_t>(seq_lens.size());
  }
  [[nodiscard]] std::int64_t total_q() const noexcept {
    return static_cast<std::int64_t>(tokens.size());
  }
  [[nodiscard]] std::int64_t first_position(std::int64_t b) const noexcept {
    return seq_lens[b] - (cu_seqlens_q[b + 1] - cu_seqlens_q[b]);
  }
};

/// Grows the sequences by their tokens and describes the result.
Batch make_batch(Phase phase, std::span<const BatchEntry> entries);

/// The largest batch that will be run.
struct BatchLimits {
  std::int64_t sequences = 1;
  std::int64_t prefill_rows = 1;  ///< of all sequences together
  std::int64_t seq_len = 0;

  /// Errors: kInvalidArgument when the batch is larger.
  void check(const Batch& batch) const;
  /// Rows of any batch.
  [[nodiscard]] std::int64_t rows() const noexcept { return std::max(sequences, prefill_rows); }
};

}  // namespace llama
