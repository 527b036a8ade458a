/// The rules of a stage: which keys of its chunks are read (docs/guide/algorithm.md, "Scoring a
/// chunk").
///
/// A rule is a type with read(chunks, n, logits). It asks logits.add<kKeys>(positions, of_chunk, n)
/// for kKeys neighbouring keys of each of n chunks, up to kScanBatchKeys at once. What the rows of
/// the search make of a key is remembered there for its chunk (reduction.hpp), the best of all;
/// what comes back is the largest logit of each key, never NaN, by which a rule may steer. Two
/// rules ask for more: logits.add_all(positions, of_chunk, n) for keys that count together, those
/// of a chunk as neighbours, and logits.add_landmarks(first_keys, n) for the landmarks of n chunks.
/// A test can count reads without any arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

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
    int active[kScanBatchChunks];
    int num_active = 0;
    for (int i = 0; i < n; ++i) {
      if (chunks[i].size() > 1) continue;
      positions[num_active] = chunks[i].l;
      active[num_active++] = i;
    }
    if (num_active > 0) logits.template add<1>(positions, active, num_active);
    std::int64_t keys_read = num_active;

    for (;;) {
      num_active = 0;
      for (int i = 0; i < n; ++i) {
        const auto [l, r] = chunks[i];
        if (r - l <= 1) continue;
        const std::int32_t m = l + (r - l) / 2;
        positions[2 * num_active] = l + (m - l) / 2;
        positions[2 * num_active + 1] = m + (r - m) / 2;
        active[num_active++] = i;
      }
      if (num_active == 0) return keys_read;
      const float* const largest = logits.template add<2>(positions, active, num_active);
      keys_read += 2 * num_active;
      for (int i = 0; i < num_active; ++i) {
        ChunkRange& chunk = chunks[active[i]];
        const std::int32_t m = chunk.middle();
        const bool left = largest[2 * i] >= largest[2 * i + 1];
        chunk = {left ? chunk.l : m, left ? m : chunk.r};
      }
    }
  }
};

/// The chunk's centre key alone.
struct Centre {
  template <typename Logits>
  static std::int64_t read(const ChunkRange* chunks, int n, Logits& logits) {
    std::int32_t positions[kScanBatchChunks];
    int all[kScanBatchChunks];
    for (int i = 0; i < n; ++i) {
      positions[i] = chunks[i].middle();
      all[i] = i;
    }
    logits.template add<1>(positions, all, n);
    return n;
  }
};

/// The chunk's landmark, which counts as one read.
struct Landmark {
  template <typename Logits>
  static std::int64_t read(const ChunkRange* chunks, int n, Logits& logits) {
    std::int32_t first_keys[kScanBatchChunks];
    for (int i = 0; i < n; ++i) first_keys[i] = chunks[i].l;
    logits.add_landmarks(first_keys, n);
    return n;
  }
};

/// Every key, in ascending order.
struct EveryKey {
  template <typename Logits>
  static std::int64_t read(const ChunkRange* chunks, int n, Logits& logits) {
    std::int32_t positions[kScanBatchKeys];
    int of_chunk[kScanBatchKeys];
    int waiting = 0;
    std::int64_t keys_read = 0;
    const auto flush = [&] {
      if (waiting > 0) logits.add_all(positions, of_chunk, waiting);
      keys_read += std::exchange(waiting, 0);
    };
    for (int i = 0; i < n; ++i) {
      for (std::int32_t key = chunks[i].l; key < chunks[i].r; ++key) {
        positions[waiting] = key;
        of_chunk[waiting++] = i;
        if (waiting == kScanBatchKeys) flush();
      }
    }
    flush();
    return keys_read;
  }
};

/// The rules that a search knows; ScanRule's values are their numbers.
template <typename... Rules>
struct RuleList {
  static constexpr int kCount = sizeof...(Rules);
  static_assert(kCount > 0);

  /// These rules and others behind them.
  template <typename... Others>
  using With = RuleList<Rules..., Others...>;

  /// visit(rule) with the type of the rule of this number, which is below kCount.
  template <typename Visit>
  static auto visit(ScanRule number, Visit&& visit) {
    return visit_from<0, Rules...>(static_cast<int>(number), visit);
  }

 private:
  template <int kNumber, typename First, typename... Others, typename Visit>
  static auto visit_from(int number, Visit& visit) {
    if constexpr (sizeof...(Others) == 0) {
      return visit(First{});
    } else {
      if (number == kNumber) return visit(First{});
      return visit_from<kNumber + 1, Others...>(number, visit);
    }
  }
};

/// The rules of the compiled library. A program's own follow in a list With them, from
/// ScanRule::kCustom on.
using BuiltRules = RuleList<Descent, Centre, Landmark, EveryKey>;

/// Reads the chunks [starts[i], min(starts[i] + chunk_size, end)) by a rule, a batch at a time:
/// before_batch(first) is called before `logits` takes in those from chunk `first` on. Returns the
/// number of keys, or landmarks, read.
template <typename Rule, typename Logits, typename BeforeBatch>
std::int64_t scan_chunks(Rule rule, const std::int32_t* starts, std::int64_t count,
                         std::int64_t chunk_size, std::int64_t end, Logits& logits,
                         BeforeBatch&& before_batch) {
  std::int64_t keys_read = 0;
  for (std::int64_t first = 0; first < count; first += kScanBatchChunks) {
    const int n = static_cast<int>(std::min<std::int64_t>(kScanBatchChunks, count - first));
    ChunkRange chunks[kScanBatchChunks];
    for (int i = 0; i < n; ++i) {
      const std::int64_t l = starts[first + i];
      chunks[i] = {static_cast<std::int32_t>(l),
                   static_cast<std::int32_t>(std::min(l + chunk_size, end))};
    }
    before_batch(first);
    logits.clear(n);
    keys_read += rule.read(chunks, n, logits);
  }
  return keys_read;
}

}  // namespace hip_attn::cpu
