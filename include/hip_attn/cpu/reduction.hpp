/// From what the rows of a search make of chunks to one score per chunk
/// (docs/guide/algorithm.md, "From rows to a score").
///
/// A maximum over rows can be taken key by key, and rows meet in the scorer (ChunkMaxima). Where a
/// score needs the logit of each row for each chunk (ChunkRowLogits), a stage writes them down, and
/// a reduction makes scores of them all once the last is there. NaN counts as -inf everywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hip_attn/config.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cpu/exponential.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

inline constexpr float kNoLogit = -std::numeric_limits<float>::infinity();

/// Logits of a stage: logits[row * stride + chunk].
struct RowLogits {
  float* logits;
  std::int64_t stride;
  std::int64_t num_rows;
};

// ---- Reductions ---------------------------------------------------------------------------------

/// scores[i] = the largest logit of any row for chunk i.
inline void largest_logits(const RowLogits& rows, std::int64_t num_chunks, float* scores) noexcept {
  std::fill(scores, scores + num_chunks, kNoLogit);
  for (std::int64_t r = 0; r < rows.num_rows; ++r) {
    const float* const logits = rows.logits + r * rows.stride;
    for (std::int64_t i = 0; i < num_chunks; ++i) scores[i] = std::max(scores[i], logits[i]);
  }
}

/// exp(logit - max), 1 where they are equal, which infinities can be.
[[gnu::always_inline]] inline float mass_of(float logit, float max) noexcept {
  return logit == max ? 1.f : exp_of(logit - max);
}

/// scores[i] = the sum over rows of exp(logit(i) - log of the sum over chunks of exp(logit)). A row
/// whose logits are all -inf adds nothing. Sums are taken in a fixed order: over tiles of
/// kSumTileChunks chunks, over tiles in ascending order, over rows in ascending order.
inline void softmax_sums(const RowLogits& rows, std::int64_t num_chunks, float* scores) noexcept {
  constexpr std::int64_t kSumTileChunks = 64;
  std::fill(scores, scores + num_chunks, 0.f);
  for (std::int64_t r = 0; r < rows.num_rows; ++r) {
    float* const logits = rows.logits + r * rows.stride;
    float max = kNoLogit;
    for (std::int64_t i = 0; i < num_chunks; ++i) max = std::max(max, logits[i]);
    if (max == kNoLogit) continue;
    float sum = 0.f;
    for (std::int64_t first = 0; first < num_chunks; first += kSumTileChunks) {
      const std::int64_t end = std::min(first + kSumTileChunks, num_chunks);
      for (std::int64_t i = first; i < end; ++i) logits[i] = mass_of(logits[i], max);
      float of_tile = 0.f;
      for (std::int64_t i = first; i < end; ++i) of_tile += logits[i];
      sum += of_tile;
    }
    const float weight = 1.f / sum;
    for (std::int64_t i = 0; i < num_chunks; ++i) scores[i] += logits[i] * weight;
  }
}

/// Uses the logits up.
inline void reduce_rows(Reduction reduction, const RowLogits& rows, std::int64_t num_chunks,
                        float* scores) noexcept {
  if (reduction == Reduction::kSoftmaxSum) {
    softmax_sums(rows, num_chunks, scores);
  } else {
    largest_logits(rows, num_chunks, scores);
  }
}

// ---- What a rule fills --------------------------------------------------------------------------
//
// A scorer multiplies rows with keys: maxima(positions, n, a) writes the largest product of each
// key, never NaN; products(positions, n, out) writes out[r * kScanBatchKeys + i] of every row;
// landmark_products(first_keys, n, out) writes those of landmarks likewise; num_rows() says of how
// many rows.

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

  /// To where the largest logits of the next batch are written.
  void move_to(float* largest) noexcept { largest_ = largest; }

  void clear(int n) noexcept { std::fill(largest_, largest_ + n, kNoLogit); }

  template <int kKeys>
  const float* add(const std::int32_t* positions, const int* of_chunk, int n) {
    scorer_.maxima(positions, kKeys * n, of_keys_);
    take_largest<kKeys>(of_keys_, of_chunk, n, largest_);
    return of_keys_;
  }

  void add_all(const std::int32_t* positions, const int* of_chunk, int n) {
    add<1>(positions, of_chunk, n);
  }

  /// Not asked for: see StagePlan::needs_row_logits.
  void add_landmarks(const std::int32_t*, int) noexcept {}

 private:
  const Scorer& scorer_;
  float* largest_ = nullptr;
  float of_keys_[kScanBatchKeys];
};

/// The logit of each row for each chunk.
template <typename Scorer>
class ChunkRowLogits {
 public:
  /// logits: of the chunks of this batch. products: [rows][kScanBatchKeys]. `rule` makes logits of
  /// products; a maximum compares plain products, by {1, 0}.
  ChunkRowLogits(const Scorer& scorer, const RowLogits& logits, float* products, LogitRule rule,
                 Reduction reduction) noexcept
      : scorer_(scorer),
        logits_(logits),
        products_(products),
        rule_(rule),
        sums_(reduction == Reduction::kSoftmaxSum) {}

  /// To the logits of the next batch.
  void move_to(std::int64_t first) noexcept { first_ = first; }

  void clear(int n) noexcept {
    for (std::int64_t r = 0; r < logits_.num_rows; ++r) std::fill_n(of_row(r), n, kNoLogit);
  }

  template <int kKeys>
  const float* add(const std::int32_t* positions, const int* of_chunk, int n) {
    const int num_keys = kKeys * n;
    scorer_.products(positions, num_keys, products_);
    std::fill(of_keys_, of_keys_ + num_keys, kNoLogit);
    for (std::int64_t r = 0; r < logits_.num_rows; ++r) {
      float* const products = products_ + r * kScanBatchKeys;
      for (int i = 0; i < num_keys; ++i) of_keys_[i] = std::max(of_keys_[i], products[i]);
      make_logits(products, num_keys);
      take_largest<kKeys>(products, of_chunk, n, of_row(r));
    }
    return of_keys_;
  }

  void add_all(const std::int32_t* positions, const int* of_chunk, int n) {
    scorer_.products(positions, n, products_);
    for (std::int64_t r = 0; r < logits_.num_rows; ++r) {
      float* const products = products_ + r * kScanBatchKeys;
      make_logits(products, n);
      if (sums_) {
        take_sums(products, of_chunk, n, of_row(r));
      } else {
        take_largest<1>(products, of_chunk, n, of_row(r));
      }
    }
  }

  void add_landmarks(const std::int32_t* first_keys, int n) {
    scorer_.landmark_products(first_keys, n, products_);
    for (std::int64_t r = 0; r < logits_.num_rows; ++r) {
      float* const products = products_ + r * kScanBatchKeys;
      make_logits(products, n);
      float* const logits = of_row(r);
      for (int i = 0; i < n; ++i) logits[i] = std::max(logits[i], products[i]);
    }
  }

 private:
  [[nodiscard]] float* of_row(std::int64_t row) const noexcept {
    return logits_.logits + row * logits_.stride + first_;
  }

  void make_logits(float* products, int n) const noexcept {
    for (int i = 0; i < n; ++i) products[i] *= rule_.scale;
    if (rule_.softcap == 0.f) return;
    for (int i = 0; i < n; ++i) {
      products[i] = rule_.softcap * tanh_of(products[i] / rule_.softcap);
    }
  }

  /// logits[of_chunk[i]] = log(exp(itself) + exp(of_keys[i])), those of a chunk, which are
  /// neighbours, at once.
  static void take_sums(const float* of_keys, const int* of_chunk, int n, float* logits) noexcept {
    for (int begin = 0, end = 0; begin < n; begin = end) {
      float& logit = logits[of_chunk[begin]];
      float max = logit;
      for (end = begin; end < n && of_chunk[end] == of_chunk[begin]; ++end) {
        max = std::max(max, of_keys[end]);
      }
      if (max == kNoLogit) continue;
      float sum = mass_of(logit, max);
      for (int i = begin; i < end; ++i) {
        const float mass = mass_of(of_keys[i], max);
        sum += mass == mass ? mass : 0.f;  // NaN
      }
      logit = max + std::log(sum);
    }
  }

  const Scorer& scorer_;
  RowLogits logits_;
  float* products_;
  LogitRule rule_;
  bool sums_;
  std::int64_t first_ = 0;
  float of_keys_[kScanBatchKeys];
};

}  // namespace hip_attn::cpu
