/// Stage "scan" of prefill: chunks of keys descend against the pooled query rows of a unit. What
/// scores the keys, and how many at once, is a template parameter: search_mma.cuh,
/// search_wgmma.cuh.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/rows/paged_rows.cuh"

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
      : pages(kv.map, request), keys(kv.k, kv_head), fallback_row(fallback_row_) {}

  /// The key of a position on this page; the fallback row and true in `none` where there is none to
  /// read.
  __device__ const Stored* row(bool wanted, std::int32_t position, std::int32_t page,
                               bool& none) const {
    const RowSlot slot = pages.slot(position, page);
    none = !wanted || slot.page < 0;
    return none ? fallback_row : keys.row(slot);
  }
};

/// A chunk [l, r) on its way down.
struct ChunkDescent {
  std::int32_t l;
  std::int32_t r;
  float best = -INFINITY;

  __device__ std::int32_t size() const { return r - l; }
  __device__ std::int32_t middle() const { return l + (r - l) / 2; }
  __device__ std::int32_t left() const { return l + (middle() - l) / 2; }
  __device__ std::int32_t right() const { return middle() + (r - middle()) / 2; }
  __device__ ChunkDescent half(bool upper) const {
    return {upper ? middle() : l, upper ? r : middle()};
  }
};

/// Scores chunks with the warps of a team of thread blocks. Scorer gives the scores of kKeysPerQuad
/// keys to every quad of lanes, and kWarpsTogether warps must call it together.
template <typename Stored, typename Scorer, typename Team, int kWarps>
class ChunkScan {
  static constexpr int kKeys = Scorer::kKeysPerQuad;
  static constexpr int kChunks = kKeys / 2;  ///< of a quad in a descent

 public:
  __device__ ChunkScan(const SearchKeys<Stored>& keys, const Scorer& score)
      : keys_(keys), score_(score) {}

  /// scores[i] of all chunks i < count, after Team::sync(); start_of(i) is chunk i's first key,
  /// `end` bounds the last chunk. Returns the keys that this thread's quad read (meaningful in
  /// lanes that are multiples of 4).
  template <typename StartOf>
  __device__ std::uint32_t run(bool centre, std::int32_t count, std::int32_t chunk_size,
                               std::int32_t end, StartOf&& start_of, float* scores) const {
    const auto chunk_at = [&](std::int32_t i) {
      const std::int32_t l = i < count ? start_of(i) : 0;
      return ChunkDescent{l, i < count ? min(l + chunk_size, end) : 0};
    };
    // A chunk of one key has one score, whatever the rule.
    const bool one_key = centre || chunk_size == 1;
    const std::int32_t per_warp = 8 * (one_key ? kKeys : kChunks);
    const std::int32_t step = per_warp * kWarps;
    std::uint32_t keys_read = 0;
#pragma unroll 1
    for (std::int32_t i = Team::rank() * step; i < count; i += Team::size() * step) {
      const std::int32_t first = i + warp() * per_warp;
      if (first - warp() % Scorer::kWarpsTogether * per_warp >= count) continue;
      keys_read += one_key ? read_centres(first, count, chunk_at, scores)
                           : descend(first, count, chunk_size, chunk_at, scores);
    }
    return keys_read;
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int quad() { return lane() / 4; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }

  /// The number, among the keys of the quad, of the one that this lane finds.
  __device__ static int key() { return lane() % kKeys; }

  /// Scores of this quad's keys; -inf where there is none.
  template <typename Meanwhile>
  __device__ void score_quad(bool wanted, std::int32_t position, std::int32_t page,
                             float (&scores)[kKeys], Meanwhile&& meanwhile) const {
    bool none;
    const Stored* row = keys_.row(wanted, position, page, none);
    const std::uint32_t absent = __ballot_sync(kAll, none) >> (quad() * 4);
    score_(row, scores, meanwhile);
#pragma unroll
    for (int n = 0; n < kKeys; ++n) {
      if (absent >> n & 1u) scores[n] = -INFINITY;
    }
  }

  /// One key a chunk.
  template <typename ChunkAt>
  __device__ std::uint32_t read_centres(std::int32_t first, std::int32_t count, ChunkAt&& chunk_at,
                                        float* scores) const {
    std::uint32_t keys_read = 0;
    const std::int32_t mine = first + quad() * kKeys + key();
    const std::int32_t centre = chunk_at(mine).middle();
    float a[kKeys];
    score_quad(mine < count, centre, mine < count ? keys_.pages.page(centre) : 0, a, [] {});
#pragma unroll
    for (int n = 0; n < kKeys; ++n) {
      const std::int32_t at = first + quad() * kKeys + n;
      if (lane() % 4 == 0 && at < count) Team::put(scores + at, a[n]);
      keys_read += at < count;
    }
    return keys_read;
  }

  /// The binary descent (docs/algorithm.md, "Scoring a chunk"), two keys a chunk and level. While a
  /// level is scored, the lanes of a quad look up the four keys that each chunk may read next.
  template <typename ChunkAt>
  __device__ std::uint32_t descend(std::int32_t first, std::int32_t count, std::int32_t chunk_size,
                                   ChunkAt&& chunk_at, float* scores) const {
    const int t = lane() % 4;
    std::uint32_t keys_read = 0;
    ChunkDescent chunks[kChunks];
#pragma unroll
    for (int i = 0; i < kChunks; ++i) chunks[i] = chunk_at(first + quad() * kChunks + i);
    // Of the chunk whose key this lane finds.
    const auto mine = [&] { return key() < 2 ? chunks[0] : chunks[kChunks - 1]; };
    const auto position = [](const ChunkDescent& chunk, bool right) {
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
      score_quad(mine().size() >= least, position(mine(), t % 2), page, a, [&] {
#pragma unroll
        for (int i = 0; i < kChunks; ++i) {
          const ChunkDescent half = chunks[i].half(t >= 2);
          if (size > 2 && half.size() > 0) next_page[i] = keys_.pages.page(position(half, t % 2));
        }
      });
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        ChunkDescent& chunk = chunks[i];
        const float left = a[2 * i];
        const float right = a[2 * i + 1];
        const bool to_right = !(left >= right);
        const std::int32_t found = __shfl_sync(kAll, next_page[i], (to_right ? 2 : 0) + t % 2, 4);
        if (key() / 2 == i) page = found;
        if (chunk.size() < least) continue;
        chunk.best = fmaxf(chunk.best, fmaxf(left, right));
        if (chunk.size() == 1) {
          ++keys_read;
          continue;
        }
        keys_read += 2;
        const ChunkDescent half = chunk.half(to_right);
        chunk.l = half.l;
        chunk.r = half.r;
      }
    }
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const std::int32_t at = first + quad() * kChunks + i;
      if (t == 0 && at < count) Team::put(scores + at, chunks[i].best);
    }
    return keys_read;
  }

  const SearchKeys<Stored>& keys_;
  const Scorer& score_;
};

}  // namespace hip_attn::cuda
