/// Stage "scan" of prefill: chunks of keys descend on tensor cores, sixteen to a warp, against the
/// pooled query rows of a unit.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/kv_rows.cuh"
#include "hip_attn/cuda/search_queries.cuh"

namespace hip_attn::cuda {

/// Keys that a warp scores at once. A fragment of queries read from shared memory feeds the
/// products of both of its tiles of 16: with one tile, shared memory would be the limit.
inline constexpr int kKeysPerWarp = 32;

/// a(j) of 32 keys per warp: lane (g, t) = (lane / 4, lane % 4) brings the rows of keys g, g + 8,
/// g + 16 and g + 24, and every lane of its quad gets their scores. The keys go straight from
/// global memory to registers: see KeyTile in kv_rows.cuh for the order of their columns.
template <typename T, int kHeadDim>
struct WarpScorer {
  static constexpr int kSegments = kHeadDim / 32;

  const uint4* queries;  ///< as pool_search_queries leaves them
  int tiles;             ///< of kSearchRowTile pooled rows

  /// `meanwhile` is called when the keys have been asked for.
  template <typename Meanwhile>
  __device__ void operator()(const T* const (&rows)[4], float (&scores)[4],
                             Meanwhile&& meanwhile) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int g = lane / 4;
    const int t = lane % 4;
    uint4 keys[4][kSegments];
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
#pragma unroll
      for (int key = 0; key < 4; ++key) {
        keys[key][i] = read_streaming_16(rows[key] + i * 32 + t * 8);
      }
    }
    meanwhile();
#pragma unroll
    for (float& score : scores) score = -INFINITY;

    // Segment i of this lane's row lies at search_piece(g, 4 i + t).
    const uint4* row = queries + g * kRowPieces<kHeadDim> + t;
    const uint4* even = row + g % 2 * 4;
    const uint4* odd = row - g % 2 * 4;
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      float upper[4] = {};
      float lower[4] = {};
#pragma unroll
      for (int i = 0; i < kSegments; ++i) {
        const uint4 b = i % 2 == 0 ? even[i * 4] : odd[i * 4];
        mma_16x8x16<T>(upper, keys[0][i].x, keys[1][i].x, keys[0][i].y, keys[1][i].y, b.x, b.y);
        mma_16x8x16<T>(lower, keys[2][i].x, keys[3][i].x, keys[2][i].y, keys[3][i].y, b.x, b.y);
        mma_16x8x16<T>(upper, keys[0][i].z, keys[1][i].z, keys[0][i].w, keys[1][i].w, b.z, b.w);
        mma_16x8x16<T>(lower, keys[2][i].z, keys[3][i].z, keys[2][i].w, keys[3][i].w, b.z, b.w);
      }
      even += kSearchRowTile * kRowPieces<kHeadDim>;
      odd += kSearchRowTile * kRowPieces<kHeadDim>;
      scores[0] = fmaxf(scores[0], fmaxf(upper[0], upper[1]));  // fmaxf passes NaN over
      scores[1] = fmaxf(scores[1], fmaxf(upper[2], upper[3]));
      scores[2] = fmaxf(scores[2], fmaxf(lower[0], lower[1]));
      scores[3] = fmaxf(scores[3], fmaxf(lower[2], lower[3]));
    }
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) {
#pragma unroll
      for (float& score : scores) {
        score = fmaxf(score, __shfl_xor_sync(0xffffffffu, score, lanes));
      }
    }
  }
};

/// A chunk [l, r) on its way down, one to a quad of lanes.
struct ChunkDescent {
  std::int32_t l;
  std::int32_t r;
  std::int32_t next_page;  ///< of the key that this lane looked up for the next level
  float best = -INFINITY;

  __device__ std::int32_t middle() const { return l + (r - l) / 2; }
  __device__ std::int32_t left() const { return l + (middle() - l) / 2; }
  __device__ std::int32_t right() const { return middle() + (r - middle()) / 2; }
};

/// Scores chunks for the warps of one thread block.
template <typename T, int kHeadDim, int kWarps>
class ChunkScan {
 public:
  /// any_row: D elements that may be read where there is no key to read.
  __device__ ChunkScan(const KvRows<T>& kv, const WarpScorer<T, kHeadDim>& score, const T* any_row)
      : kv_(kv), score_(score), any_row_(any_row) {}

  /// scores[i] of all chunks i < count; start_of(i) is chunk i's first key, `end` bounds the last
  /// chunk. Returns the keys that this thread's quad read (meaningful in lanes that are multiples
  /// of 4).
  template <typename StartOf>
  __device__ std::uint32_t run(bool centre, std::int32_t count, std::int32_t chunk_size,
                               std::int32_t end, StartOf&& start_of, float* scores) const {
    const auto chunk_at = [&](std::int32_t i) {
      const std::int32_t l = i < count ? start_of(i) : 0;
      return ChunkDescent{l, i < count ? min(l + chunk_size, end) : 0, 0};
    };
    // A chunk of one key has one score, whatever the rule.
    return centre || chunk_size == 1 ? read_centres(count, chunk_at, scores)
                                     : descend(count, chunk_size, chunk_at, scores);
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }

  /// The row of a key, or another one and `none` where there is none to read.
  __device__ const T* row_at(bool wanted, std::int32_t position, std::int32_t page,
                             bool& none) const {
    const auto slot = kv_.slot(position, page);
    none = !wanted || slot.page < 0;
    return none ? any_row_ : kv_.key(slot);
  }

  /// One key a chunk, thirty-two chunks to a warp.
  template <typename ChunkAt>
  __device__ std::uint32_t read_centres(std::int32_t count, ChunkAt&& chunk_at,
                                        float* scores) const {
    std::uint32_t keys_read = 0;
#pragma unroll 1
    for (std::int32_t first = warp() * 32; first < count; first += kWarps * 32) {
      const T* rows[4];
      bool none[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int32_t at = first + i * 8 + lane() / 4;
        const ChunkDescent chunk = chunk_at(at);
        const bool wanted = at < count;
        rows[i] = row_at(wanted, chunk.middle(), wanted ? kv_.page(chunk.middle()) : 0, none[i]);
        keys_read += wanted;
      }
      float a[4];
      score_(rows, a, [] {});
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int32_t at = first + i * 8 + lane() / 4;
        if (lane() % 4 == 0 && at < count) scores[at] = none[i] ? -INFINITY : a[i];
      }
    }
    return keys_read;
  }

  /// The binary descent (docs/algorithm.md, "Scoring a chunk"), sixteen chunks to a warp: chunk i
  /// has its left key in row g of tile i and its right one in row g + 8. Lanes of a quad look up a
  /// page of the next level each, for the four keys that it may read, while this level is scored.
  template <typename ChunkAt>
  __device__ std::uint32_t descend(std::int32_t count, std::int32_t chunk_size, ChunkAt&& chunk_at,
                                   float* scores) const {
    const int quad = lane() & ~3;
    const int t = lane() % 4;
    std::uint32_t keys_read = 0;
#pragma unroll 1
    for (std::int32_t first = warp() * 16; first < count; first += kWarps * 16) {
      ChunkDescent chunks[2];
      std::int32_t pages[4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        chunks[i] = chunk_at(first + i * 8 + lane() / 4);
        const bool wanted = chunks[i].l < chunks[i].r;
        pages[2 * i] = wanted ? kv_.page(chunks[i].left()) : 0;
        pages[2 * i + 1] = wanted ? kv_.page(chunks[i].right()) : 0;
      }
      // The last chunk may be shorter than the others: it has the bottom sooner, and where it is
      // one key from the start that key stands for both.
      std::int32_t least = 1;
#pragma unroll 1
      for (std::int32_t size = chunk_size; size > 1; size >>= 1, least = 2) {
        const T* rows[4];
        bool none[4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const bool wanted = chunks[i].r - chunks[i].l >= least;
          rows[2 * i] = row_at(wanted, chunks[i].left(), pages[2 * i], none[2 * i]);
          rows[2 * i + 1] = row_at(wanted, chunks[i].right(), pages[2 * i + 1], none[2 * i + 1]);
        }
        float a[4];
        score_(rows, a, [&] {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const std::int32_t m = chunks[i].middle();
            const ChunkDescent half{t < 2 ? chunks[i].l : m, t < 2 ? m : chunks[i].r, 0};
            const std::int32_t position = t % 2 == 0 ? half.left() : half.right();
            if (half.l < half.r && size > 2) chunks[i].next_page = kv_.page(position);
          }
        });
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          ChunkDescent& chunk = chunks[i];
          const float left = none[2 * i] ? -INFINITY : a[2 * i];
          const float right = none[2 * i + 1] ? -INFINITY : a[2 * i + 1];
          const bool to_left = left >= right;
          const int source = quad + (to_left ? 0 : 2);
          pages[2 * i] = __shfl_sync(kAll, chunk.next_page, source);
          pages[2 * i + 1] = __shfl_sync(kAll, chunk.next_page, source + 1);
          if (chunk.r - chunk.l < least) continue;
          chunk.best = fmaxf(chunk.best, fmaxf(left, right));
          keys_read += chunk.r - chunk.l == 1 ? 1 : 2;
          const std::int32_t m = chunk.middle();
          if (chunk.r - chunk.l == 1) continue;
          if (to_left) {
            chunk.r = m;
          } else {
            chunk.l = m;
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::int32_t at = first + i * 8 + lane() / 4;
        if (t == 0 && at < count) scores[at] = chunks[i].best;
      }
    }
    return keys_read;
  }

  const KvRows<T>& kv_;
  const WarpScorer<T, kHeadDim>& score_;
  const T* any_row_;
};

}  // namespace hip_attn::cuda
