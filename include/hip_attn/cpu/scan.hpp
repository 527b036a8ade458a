/// Stage "scan": scores chunks of keys (docs/guide/algorithm.md, "Scoring a chunk").
///
/// What a key scores is the caller's: score_keys(const std::int32_t* positions, int n, float* a)
/// writes a[i] = a(positions[i]), never NaN, for n <= kScanBatchKeys keys. A test can count reads
/// without any arithmetic; another scoring rule is another functor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hip_attn/config.hpp"

namespace hip_attn::cpu {

/// Chunks that descend in lockstep, so that their keys are scored as one tile.
inline constexpr int kScanBatchChunks = 32;
inline constexpr int kScanBatchKeys = 2 * kScanBatchChunks;

/// A chunk of keys [l, r) and the best score seen in it.
struct Descent {
  std::int32_t l;
  std::int32_t r;
  float best;
};

/// The binary descent, one level of all chunks at a time: read the centres of both halves, remember
/// the better score, go on in the better half (the left one when equal), until one key remains.
/// Returns the number of keys read.
template <typename ScoreKeys>
std::int64_t descend(Descent* chunks, int n, ScoreKeys& score_keys) {
  std::int32_t positions[kScanBatchKeys];
  float a[kScanBatchKeys];
  int active[kScanBatchChunks];
  std::int64_t keys_read = 0;

  int num_active = 0;
  for (int i = 0; i < n; ++i) {  // a chunk of one key is scored by that key
    if (chunks[i].r - chunks[i].l == 1) {
      positions[num_active] = chunks[i].l;
      active[num_active++] = i;
    }
  }
  if (num_active > 0) score_keys(positions, num_active, a);
  for (int i = 0; i < num_active; ++i) chunks[active[i]].best = a[i];
  keys_read += num_active;

  for (;;) {
    num_active = 0;
    for (int i = 0; i < n; ++i) {
      const auto [l, r, best] = chunks[i];
      if (r - l <= 1) continue;
      const std::int32_t m = l + (r - l) / 2;
      positions[2 * num_active] = l + (m - l) / 2;
      positions[2 * num_active + 1] = m + (r - m) / 2;
      active[num_active++] = i;
    }
    if (num_active == 0) return keys_read;
    score_keys(positions, 2 * num_active, a);
    keys_read += 2 * num_active;
    for (int i = 0; i < num_active; ++i) {
      Descent& chunk = chunks[active[i]];
      const std::int32_t m = chunk.l + (chunk.r - chunk.l) / 2;
      const float left = a[2 * i];
      const float right = a[2 * i + 1];
      chunk.best = std::max({chunk.best, left, right});
      if (left >= right) {
        chunk.r = m;
      } else {
        chunk.l = m;
      }
    }
  }
}

/// scores[i] = score of the chunk [starts[i], min(starts[i] + chunk_size, end)). Returns the number
/// of keys read.
template <typename ScoreKeys>
std::int64_t score_chunks(ScanRule rule, const std::int32_t* starts, std::int64_t count,
                          std::int64_t chunk_size, std::int64_t end, ScoreKeys&& score_keys,
                          float* scores) {
  std::int64_t keys_read = 0;
  for (std::int64_t first = 0; first < count; first += kScanBatchChunks) {
    const int n = static_cast<int>(std::min<std::int64_t>(kScanBatchChunks, count - first));
    Descent chunks[kScanBatchChunks];
    for (int i = 0; i < n; ++i) {
      const std::int64_t l = starts[first + i];
      chunks[i] = {static_cast<std::int32_t>(l),
                   static_cast<std::int32_t>(std::min(l + chunk_size, end)),
                   -std::numeric_limits<float>::infinity()};
    }
    if (rule == ScanRule::kCentre) {
      std::int32_t centres[kScanBatchChunks];
      for (int i = 0; i < n; ++i) centres[i] = chunks[i].l + (chunks[i].r - chunks[i].l) / 2;
      score_keys(centres, n, scores + first);
      keys_read += n;
    } else {
      keys_read += descend(chunks, n, score_keys);
      for (int i = 0; i < n; ++i) scores[first + i] = chunks[i].best;
    }
  }
  return keys_read;
}

}  // namespace hip_attn::cpu
