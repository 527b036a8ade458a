/// The rules of a stage: which keys of its chunks are read (docs/algorithm.md, "Scoring a chunk").
///
/// A rule is a type with read(chunks, n, logits). It asks logits.add(positions, chunk_of_key, n)
/// for up to kScanBatchKeys keys at once. What the rows of the search make of a key is remembered
/// there for its chunk (reduction.hpp); what comes back is the largest logit of each key, never
/// NaN, by which a rule may steer. A test can count reads without any arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/config.hpp"

namespace hip_attn::cpu {

/// Chunks that are read in lockstep, so that their keys are scored as one tile.
inline constexpr int kScanBatchChunks = 32;
inline constexpr int kScanBatchKeys = 2 * kScanBatchChunks;

/// Keys [l, r), at least one.
struct ChunkRange {
  std::int32_t l;
  std::int32_t r;

  [[nodiscard]] constexpr std::int32_t size() const noexcept { return r - l; }
  [[nodiscard]] constexpr std::int32_t middle() const noexcept { return l + (r - l) / 2; }
};

/// The binary descent, one level of all chunks at a time: read the centres of both halves and go on
/// in the better half (the left one when equal), until one key remains. A chunk of one key is read.
struct Descent {
  /// Narrows the chunks. Returns the number of keys read.
  template <typename Logits>
  static std::int64_t read(ChunkRange* chunks, int n, Logits& logits) {
    std::int32_t positions[kScanBatchKeys];
    int chunk_of_key[kScanBatchKeys];
    int num_keys = 0;
    for (int i = 0; i < n; ++i) {
      if (chunks[i].size() > 1) continue;
      positions[num_keys] = chunks[i].l;
      chunk_of_key[num_keys++] = i;
    }
    if (num_keys > 0) logits.add(positions, chunk_of_key, num_keys);
    std::int64_t keys_read = num_keys;

    for (;;) {
      num_keys = 0;
      for (int i = 0; i < n; ++i) {
        if (chunks[i].size() <= 1) continue;
        const std::int32_t m = chunks[i].middle();
        chunk_of_key[num_keys] = i;
        positions[num_keys++] = ChunkRange{chunks[i].l, m}.middle();
        chunk_of_key[num_keys] = i;
        positions[num_keys++] = ChunkRange{m, chunks[i].r}.middle();
      }
      if (num_keys == 0) return keys_read;
      const float* const largest = logits.add(positions, chunk_of_key, num_keys);
      keys_read += num_keys;
      for (int key = 0; key < num_keys; key += 2) {
        ChunkRange& chunk = chunks[chunk_of_key[key]];
        const std::int32_t m = chunk.middle();
        if (largest[key] >= largest[key + 1]) {
          chunk.r = m;
        } else {
          chunk.l = m;
        }
      }
    }
  }
};

/// The chunk's centre key alone.
struct Centre {
  template <typename Logits>
  static std::int64_t read(const ChunkRange* chunks, int n, Logits& logits) {
    std::int32_t positions[kScanBatchChunks];
    int chunk_of_key[kScanBatchChunks];
    for (int i = 0; i < n; ++i) {
      positions[i] = chunks[i].middle();
      chunk_of_key[i] = i;
    }
    logits.add(positions, chunk_of_key, n);
    return n;
  }
};

/// Calls visit(rule) with the type of a rule.
template <typename Visit>
auto visit_rule(ScanRule rule, Visit&& visit) {
  return rule == ScanRule::kCentre ? visit(Centre{}) : visit(Descent{});
}

/// Reads the chunks [starts[i], min(starts[i] + chunk_size, end)) by a rule, a batch at a time:
/// on_batch(first, n) is called when `logits` holds those of chunks [first, first + n). Returns the
/// number of keys read.
template <typename Rule, typename Logits, typename OnBatch>
std::int64_t scan_chunks(Rule rule, const std::int32_t* starts, std::int64_t count,
                         std::int64_t chunk_size, std::int64_t end, Logits& logits,
                         OnBatch&& on_batch) {
  std::int64_t keys_read = 0;
  for (std::int64_t first = 0; first < count; first += kScanBatchChunks) {
    const int n = static_cast<int>(std::min<std::int64_t>(kScanBatchChunks, count - first));
    ChunkRange chunks[kScanBatchChunks];
    for (int i = 0; i < n; ++i) {
      const std::int64_t l = starts[first + i];
      chunks[i] = {static_cast<std::int32_t>(l),
                   static_cast<std::int32_t>(std::min(l + chunk_size, end))};
    }
    logits.clear(n);
    keys_read += rule.read(chunks, n, logits);
    on_batch(first, n);
  }
  return keys_read;
}

}  // namespace hip_attn::cpu
