/// Stage "scan" of prefill: chunks of keys descend against the pooled query rows of a unit. What
/// scores the keys, and how many at once, is a template parameter (mma_scorer.cuh,
/// wgmma_scorer.cuh), and so is whether logits of single rows are kept (row_scan.cuh).
#pragma once

#include <cstdint>
#include <type_traits>

#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"
#include "hip_attn/cuda/search/rules.cuh"

namespace hip_attn::cuda {

/// The keys of one request and KV head by position, and a row that may be read where there is no
/// key.
template <typename Stored>
struct SearchKeys {
  RequestPages pages;
  PagedRows<Stored> keys;
  const Stored* fallback_row;

  __device__ SearchKeys(const KvTensors<Stored>& kv, int request, int kv_head,
                        const Stored* fallback_row_)
      : pages(kv.map, request, kv_head), keys(kv.k, kv_head), fallback_row(fallback_row_) {}

  /// The key of a position on this page; the fallback row and true in `none` where there is none to
  /// read.
  __device__ const Stored* row(bool wanted, std::int32_t position, std::int32_t page,
                               bool& none) const {
    const RowSlot slot = pages.slot(position, page);
    none = !wanted || slot.page < 0;
    return none ? fallback_row : keys.row(slot);
  }
};

/// Rows meet in the scorer, and a chunk's score is the largest product of any.
struct NoRowLogits {
  template <int kKeys, typename... Arguments>
  __device__ void take(const Arguments&...) const {}
};

/// Scores chunks with the warps of a team of thread blocks. Scorer gives the scores of kKeysPerQuad
/// keys to every quad of lanes, and kWarpsTogether warps must call it together. With a Rows that
/// writes the logits of single rows (RowLogitWriter), these are left in place of scores.
template <typename Traits, typename Scorer, typename Team, int kWarps, typename Rows = NoRowLogits>
class ChunkScan {
  using Stored = StoredOf<Traits>;
  using Rules = typename Traits::Rules;
  static constexpr int kKeys = Scorer::kKeysPerQuad;
  static constexpr int kChunks = kKeys / 2;  ///< of a quad in a descent
  static constexpr bool kWritesRows = !std::is_same_v<Rows, NoRowLogits>;

 public:
  __device__ ChunkScan(const SearchKeys<Stored>& keys, const Scorer& scorer, const Rows& rows = {})
      : keys_(keys), scorer_(scorer), rows_(rows) {}

  /// scores[i] of all chunks i < count, after Team::sync(), where rows have no logits; start_of(i)
  /// is chunk i's first key, `end` bounds the last chunk. Returns the keys that this thread's quad
  /// read (meaningful in lanes that are multiples of 4).
  template <typename StartOf>
  __device__ std::uint32_t run(int rule, std::int32_t count, std::int32_t chunk_size,
                               std::int32_t end, StartOf&& start_of, float* scores) const {
    const auto range_of = [&](std::int32_t i) {
      const std::int32_t l = i < count ? start_of(i) : 0;
      return ChunkRange{l, i < count ? min(l + chunk_size, end) : 0};
    };
    const int number = rule_for<Rules>(rule, chunk_size);
    return Rules::visit(number, [&]<typename Rule>() {
      if constexpr (!Rule::kDescends && !kReadsFixedKeys<Rule>) {
        return 0u;  // row_scan.cuh has these
      } else {
        return for_each_group<per_warp<Rule>()>(count, [&](std::int32_t first) {
          if constexpr (Rule::kDescends) {
            return descend(first, count, chunk_size, range_of, scores);
          } else {
            return read_keys<Rule>(first, count, range_of, scores);
          }
        });
      }
    });
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int quad() { return lane() / 4; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }

  /// The number, among the keys of the quad, of the one that this lane finds.
  __device__ static int key() { return lane() % kKeys; }

  /// Chunks that a warp scores at once.
  template <typename Rule>
  __device__ static constexpr std::int32_t per_warp() {
    return 8 * (Rule::kDescends ? kChunks : kKeys);
  }

  /// Sums up visit(first) for the chunks [first, first + kPerWarp) of this warp.
  template <std::int32_t kPerWarp, typename Visit>
  __device__ static std::uint32_t for_each_group(std::int32_t count, Visit&& visit) {
    constexpr std::int32_t kStep = kPerWarp * kWarps;
    std::uint32_t keys_read = 0;
#pragma unroll 1
    for (std::int32_t i = Team::rank() * kStep; i < count; i += Team::size() * kStep) {
      const std::int32_t first = i + warp() * kPerWarp;
      if (first - warp() % Scorer::kWarpsTogether * kPerWarp >= count) continue;
      keys_read += visit(first);
    }
    return keys_read;
  }

  /// Scores of this quad's keys; -inf where there is none. see(absent, c, row) gets the products as
  /// MmaScorer::score hands them out where rows have logits; `absent` has the bit of each lane
  /// whose key is none.
  template <typename Meanwhile, typename See>
  __device__ void score_quad(bool wanted, std::int32_t position, std::int32_t page,
                             float (&scores)[kKeys], Meanwhile&& meanwhile, See&& see) const {
    bool none;
    const Stored* row = keys_.row(wanted, position, page, none);
    const std::uint32_t all_absent = __ballot_sync(kAll, none);
    const std::uint32_t absent = all_absent >> (quad() * 4);
    if constexpr (kWritesRows) {
      scorer_.score(row, scores, meanwhile,
                    [&](const auto& c, int of_row) { see(all_absent, c, of_row); });
    } else {
      scorer_.score(row, scores, meanwhile);
    }
#pragma unroll
    for (int n = 0; n < kKeys; ++n) {
      if (absent >> n & 1u) scores[n] = kNoLogit;
    }
  }

  /// Where key i of this lane's chunk is, of a rule without descent.
  struct Place {
    bool wanted;
    std::int32_t position;
    std::int32_t page;
  };
  template <typename Rule, typename RangeOf>
  __device__ Place place_of(std::int32_t first, std::int32_t count, RangeOf&& range_of,
                            int i) const {
    const std::int32_t chunk = first + quad() * kKeys + key();
    const std::int32_t position = Rule::position(range_of(chunk), i);
    return {chunk < count, position, chunk < count ? keys_.pages.page(position) : 0};
  }

  /// Keys of the quad's chunks, one of each.
  __device__ static std::uint32_t chunks_of_quad(std::int32_t first, std::int32_t count) {
    return static_cast<std::uint32_t>(min(max(count - first - quad() * kKeys, 0), kKeys));
  }

  template <typename Rule, typename RangeOf>
  __device__ std::uint32_t read_keys(std::int32_t first, std::int32_t count, RangeOf&& range_of,
                                     float* scores) const {
    float best[kKeys];
#pragma unroll 1
    for (int i = 0; i < Rule::kKeys; ++i) {
      const Place place = place_of<Rule>(first, count, range_of, i);
      float a[kKeys];
      score_quad(
          place.wanted, place.position, place.page, a, [] {},
          [&](std::uint32_t absent, const auto& c, int row) {
            rows_.template take<1>(absent, c, row, first, i > 0);
          });
#pragma unroll
      for (int n = 0; n < kKeys; ++n) best[n] = i == 0 ? a[n] : fmaxf(best[n], a[n]);
    }
#pragma unroll
    for (int n = 0; n < kKeys; ++n) {
      const std::int32_t at = first + quad() * kKeys + n;
      if (!kWritesRows && lane() % 4 == 0 && at < count) Team::put(scores + at, best[n]);
    }
    return Rule::kKeys * chunks_of_quad(first, count);
  }

  /// The binary descent (docs/guide/algorithm.md, "Scoring a chunk"), two keys a chunk and level.
  /// While a level is scored, the lanes of a quad look up the four keys that each chunk may read
  /// next.
  template <typename RangeOf>
  __device__ std::uint32_t descend(std::int32_t first, std::int32_t count, std::int32_t chunk_size,
                                   RangeOf&& range_of, float* scores) const {
    const int t = lane() % 4;
    std::uint32_t keys_read = 0;
    ChunkRange chunks[kChunks];
    float best[kChunks];
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      chunks[i] = range_of(first + quad() * kChunks + i);
      best[i] = kNoLogit;
    }
    // Of the chunk whose key this lane finds.
    const auto mine = [&] { return key() < 2 ? chunks[0] : chunks[kChunks - 1]; };
    const auto position = [](const ChunkRange& chunk, bool right) {
      return right ? chunk.right() : chunk.left();
    };
    std::int32_t page = mine().size() > 0 ? keys_.pages.page(position(mine(), t % 2)) : 0;
    // The last chunk may be shorter than the others: it has its bottom sooner, and where it is
    // one key from the start, that key stands for both.
    std::int32_t least = 1;
#pragma unroll 1
    for (std::int32_t size = chunk_size; size > 1; size >>= 1, least = 2) {
      std::int32_t next_page[kChunks] = {};
      float a[kKeys];
      score_quad(
          mine().size() >= least, position(mine(), t % 2), page, a,
          [&] {
#pragma unroll
            for (int i = 0; i < kChunks; ++i) {
              const ChunkRange half = chunks[i].half(t >= 2);
              if (size > 2 && half.size() > 0)
                next_page[i] = keys_.pages.page(position(half, t % 2));
            }
          },
          [&](std::uint32_t absent, const auto& c, int row) {
            rows_.template take<2>(absent, c, row, first, size < chunk_size);
          });
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        ChunkRange& chunk = chunks[i];
        const float left = a[2 * i];
        const float right = a[2 * i + 1];
        const bool to_right = !(left >= right);
        const std::int32_t found = __shfl_sync(kAll, next_page[i], (to_right ? 2 : 0) + t % 2, 4);
        if (key() / 2 == i) page = found;
        if (chunk.size() < least) continue;
        best[i] = fmaxf(best[i], fmaxf(left, right));
        if (chunk.size() == 1) {
          ++keys_read;
          continue;
        }
        keys_read += 2;
        chunk = chunk.half(to_right);
      }
    }
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const std::int32_t at = first + quad() * kChunks + i;
      if (!kWritesRows && t == 0 && at < count) Team::put(scores + at, best[i]);
    }
    return keys_read;
  }

  const SearchKeys<Stored>& keys_;
  const Scorer& scorer_;
  Rows rows_;
};

}  // namespace hip_attn::cuda
