/// The true attention mass of one head, and how much of it a selection covers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hip_attn/types.hpp"

namespace llama {

/// Consecutive keys, [begin, end).
struct KeyRange {
  std::int64_t begin;
  std::int64_t end;
};

/// What the query blocks of one KV head attend to in a prompt, from position 0 on.
struct HeadSelection {
  std::int64_t block_q = 64;
  std::int64_t block_k = 8;
  std::int64_t sink = 0;
  std::vector<std::int32_t> window_start;  ///< by query block
  std::vector<std::int32_t> blocks;        ///< of all query blocks, each ascending
  std::vector<std::int32_t> block_ends;    ///< by query block: where its blocks end

  /// Every query block attends to every key up to the row.
  static HeadSelection dense(std::int64_t tokens);

  [[nodiscard]] std::int64_t num_query_blocks() const noexcept {
    return static_cast<std::int64_t>(window_start.size());
  }
  [[nodiscard]] std::span<const std::int32_t> blocks_of(std::int64_t query_block) const;
  /// In ascending order: the sink, each selected block, and the window up to `end`.
  [[nodiscard]] std::vector<KeyRange> attended(std::int64_t query_block, std::int64_t end) const;
  /// Keys of a cell of the mass: a block, or a part of a larger one.
  [[nodiscard]] std::int64_t cell_keys() const noexcept;
};

/// A head of `tokens` rows. A cell is a query block by cell_keys() keys.
struct HeadMass {
  std::vector<float> lse;      ///< [tokens] of the logits of all keys up to the row
  std::vector<float> covered;  ///< [tokens] the share of the row's mass that it attends to
  /// Of each query block, for its cells up to its last row: the mass, mean over the rows.
  std::vector<hip_attn::float16> cells;
  /// Of each query block, for the cells of its attended keys in ascending order: the mass that
  /// they have among the attended keys, mean over the rows.
  std::vector<hip_attn::float16> attended;

  [[nodiscard]] double mean_covered() const;
};

/// q and k: [tokens, head_dim]. Time grows with the square of the tokens, memory with the tokens.
HeadMass attention_mass(std::span<const hip_attn::float16> q, std::span<const hip_attn::float16> k,
                        std::int64_t head_dim, double scale, const HeadSelection& selection);

}  // namespace llama
