/// From what the rows of a search make of chunks to one score per chunk.
///
/// The logit of a row for a chunk is the largest of its products with the keys that the rule reads;
/// NaN counts as -inf. A reduction makes the chunk's score of them. It is a type with
///
///   kNeedsRowState   whether a score depends on other chunks, through a state of every row
///   score(tile, state, scores)   writes the score of every chunk of a tile
///
/// and, where kNeedsRowState, which costs a pass over all chunks before any is scored,
///
///   kStateFloats     of one row; the state of all rows is RowState
///   clear(state), observe(tile, state), merge(from, into)
///
/// States are merged in ascending order of fixed pieces of a stage, so that a result does not
/// depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hip_attn/cpu/scan.hpp"

namespace hip_attn::cpu {

/// The logits of up to kScanBatchChunks chunks.
struct ChunkTile {
  int num_chunks;
  const float* largest;     ///< [num_chunks] of all rows
  const float* row_logits;  ///< [num_rows][kScanBatchChunks]; null without a row state
  std::int64_t num_rows;
};

/// What a reduction knows of every row.
struct RowState {
  float* values;  ///< [max_rows][kStateFloats]
  std::int64_t max_rows;
};

/// The largest logit of any row.
struct Maximum {
  static constexpr bool kNeedsRowState = false;

  static void score(const ChunkTile& tile, const RowState&, float* scores) noexcept {
    std::copy(tile.largest, tile.largest + tile.num_chunks, scores);
  }
};

// ---- What a rule fills and a reduction reads ----------------------------------------------------
//
// A scorer multiplies rows with keys: maxima(positions, n, a) writes the largest product of each
// key, never NaN; products(positions, n, out) writes out[r * kScanBatchKeys + i] of every row;
// num_rows() says of how many.

/// largest[of_chunk[i]] takes in the next kKeys logits, for i < n. std::max passes over a NaN that
/// comes second.
template <int kKeys>
void take_largest(const float* of_keys, const int* of_chunk, int n, float* largest) noexcept {
  for (int i = 0; i < n; ++i) {
    float best = largest[of_chunk[i]];
    for (int key = 0; key < kKeys; ++key) best = std::max(best, of_keys[kKeys * i + key]);
    largest[of_chunk[i]] = best;
  }
}

/// The largest logit of each chunk alone: rows meet in the scorer.
template <typename Scorer>
class ChunkMaxima {
 public:
  explicit ChunkMaxima(const Scorer& scorer) noexcept : scorer_(scorer) {}

  void clear(int n) noexcept {
    std::fill(largest_, largest_ + n, -std::numeric_limits<float>::infinity());
  }

  template <int kKeys>
  const float* add(const std::int32_t* positions, const int* of_chunk, int n) {
    scorer_.maxima(positions, kKeys * n, of_keys_);
    take_largest<kKeys>(of_keys_, of_chunk, n, largest_);
    return of_keys_;
  }

  [[nodiscard]] ChunkTile tile(int n) const noexcept { return {n, largest_, nullptr, 0}; }

 private:
  const Scorer& scorer_;
  float largest_[kScanBatchChunks];
  float of_keys_[kScanBatchKeys];
};

/// Memory of ChunkRowLogits.
struct RowLogitMemory {
  float* products = nullptr;  ///< [rows][kScanBatchKeys]
  float* logits = nullptr;    ///< [rows][kScanBatchChunks]
};

/// The logit of each row for each chunk.
template <typename Scorer>
class ChunkRowLogits {
 public:
  ChunkRowLogits(const Scorer& scorer, const RowLogitMemory& memory) noexcept
      : scorer_(scorer), num_rows_(scorer.num_rows()), memory_(memory) {}

  void clear(int n) noexcept {
    for (std::int64_t r = 0; r < num_rows_; ++r) {
      float* const logits = memory_.logits + r * kScanBatchChunks;
      std::fill(logits, logits + n, -std::numeric_limits<float>::infinity());
    }
    std::fill(largest_, largest_ + n, -std::numeric_limits<float>::infinity());
  }

  template <int kKeys>
  const float* add(const std::int32_t* positions, const int* of_chunk, int n) {
    const int num_keys = kKeys * n;
    scorer_.products(positions, num_keys, memory_.products);
    std::fill(of_keys_, of_keys_ + num_keys, -std::numeric_limits<float>::infinity());
    for (std::int64_t r = 0; r < num_rows_; ++r) {
      const float* const products = memory_.products + r * kScanBatchKeys;
      for (int i = 0; i < num_keys; ++i) of_keys_[i] = std::max(of_keys_[i], products[i]);
      take_largest<kKeys>(products, of_chunk, n, memory_.logits + r * kScanBatchChunks);
    }
    take_largest<kKeys>(of_keys_, of_chunk, n, largest_);
    return of_keys_;
  }

  [[nodiscard]] ChunkTile tile(int n) const noexcept {
    return {n, largest_, memory_.logits, num_rows_};
  }

 private:
  const Scorer& scorer_;
  std::int64_t num_rows_;
  RowLogitMemory memory_;
  float largest_[kScanBatchChunks];
  float of_keys_[kScanBatchKeys];
};

}  // namespace hip_attn::cpu
