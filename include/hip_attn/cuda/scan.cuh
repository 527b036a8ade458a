/// Stage "scan" on the GPU: chunks of keys descend on tensor cores, eight to a warp.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/chunk_list.cuh"
#include "hip_attn/cuda/kv_rows.cuh"
#include "hip_attn/cuda/queries.cuh"
#include "hip_attn/cuda/tile_memory.cuh"

namespace hip_attn::cuda {

/// Binary descent (docs/algorithm.md, "Scoring a chunk") of eight chunks, one per quad of lanes:
/// the key of the left half is a row of the upper half of a tile, that of the right half the same
/// row of the lower half, so that a quad decides with two shuffles.
///
/// While the keys of a level are on their way, so are the pages of all four keys that the next
/// level can ask for, one to a lane of the quad: a level costs one round trip to memory, not two.
template <typename T, int kHeadDim>
class Descent {
 public:
  std::int32_t first = 0;  ///< number of the first of the eight chunks
  bool live = false;       ///< of the whole warp

  /// The top of chunk [l, r); l == r: this quad has none.
  __device__ void start(const KvRows<T>& kv, std::int32_t l, std::int32_t r) {
    l_ = l;
    r_ = r;
    best_ = -INFINITY;
    top_ = true;
    live = true;
    left_page_ = r > l ? kv.page(left_key(l, r)) : -1;
    right_page_ = r - l > 1 ? kv.page(right_key(l, r)) : -1;
  }

  /// Asks for the keys of this level.
  __device__ void request(const KvRows<T>& kv, const SharedTile<T, kHeadDim>& tile, const T* any) {
    const bool pair = r_ - l_ > 1;
    const bool single = top_ && r_ - l_ == 1;
    const auto left = kv.slot(left_key(l_, r_), left_page_);
    const auto right = kv.slot(right_key(l_, r_), right_page_);
    has_left_ = (pair || single) && left.page >= 0;
    has_right_ = pair && right.page >= 0;
    const auto left_row = reinterpret_cast<unsigned long long>(has_left_ ? kv.key(left) : nullptr);
    const auto right_row =
        reinterpret_cast<unsigned long long>(has_right_ ? kv.key(right) : nullptr);
    tile.copy(
        [&](int row) {  // rows 0 to 7 in the first two calls
          const auto address = row < 8 ? left_row : right_row;
          return reinterpret_cast<const T*>(__shfl_sync(0xffffffffu, address, row % 8 * 4));
        },
        any);

    const int t = static_cast<int>(threadIdx.x % 4);
    const std::int32_t m = l_ + (r_ - l_) / 2;
    const std::int32_t l = t >= 2 ? m : l_;
    const std::int32_t r = t >= 2 ? r_ : m;
    next_page_ = r - l > 1 ? kv.page(t % 2 == 0 ? left_key(l, r) : right_key(l, r)) : -1;
  }

  /// Takes the scores of this level's keys in and goes down to the next; false: this was the last.
  __device__ bool step(float left, float right, std::uint32_t& keys_read) {
    if (!has_left_) left = -INFINITY;
    if (!has_right_) right = -INFINITY;
    const std::int32_t width = r_ - l_;
    bool to_right = false;
    if (width > 1) {
      const std::int32_t m = l_ + width / 2;
      best_ = fmaxf(best_, fmaxf(left, right));
      keys_read += 2;
      to_right = !(left >= right);
      if (to_right) {
        l_ = m;
      } else {
        r_ = m;
      }
    } else if (width == 1 && top_) {
      best_ = left;
      keys_read += 1;
    }
    top_ = false;
    const int from = static_cast<int>(threadIdx.x % 32) / 4 * 4 + (to_right ? 2 : 0);
    left_page_ = __shfl_sync(0xffffffffu, next_page_, from);
    right_page_ = __shfl_sync(0xffffffffu, next_page_, from + 1);
    return __any_sync(0xffffffffu, r_ - l_ > 1);
  }

  __device__ float best() const { return best_; }

 private:
  // Centres of the halves of [l, r); l itself where there is one key.
  __device__ static std::int32_t left_key(std::int32_t l, std::int32_t r) {
    return l + (r - l) / 2 / 2;
  }
  __device__ static std::int32_t right_key(std::int32_t l, std::int32_t r) {
    const std::int32_t m = l + (r - l) / 2;
    return m + (r - m) / 2;
  }

  std::int32_t l_ = 0;
  std::int32_t r_ = 0;
  float best_ = 0.f;
  std::int32_t left_page_ = -1;
  std::int32_t right_page_ = -1;
  std::int32_t next_page_ = -1;
  bool top_ = false;
  bool has_left_ = false;
  bool has_right_ = false;
};

/// Scores the chunks of one stage with one of `num_warps` warps, up to two groups of chunks on the
/// way at once.
template <typename T, int kHeadDim>
struct ChunkScan {
  const KvRows<T>& kv;
  const T* any;      ///< an address of a key
  const T* queries;  ///< pooled rows in shared memory
  int query_tiles;   ///< of kRowsPerTile rows
  ChunkList chunks;
  std::int32_t end;  ///< bounds the last chunk
  float* scores;     ///< written, one per chunk; -inf up to the next multiple of 16
  int warp;          ///< of num_warps
  int num_warps;

  /// Returns the keys that this thread's quad read (meaningful in lanes that are multiples of 4).
  /// second_memory is null where there is room for one tile only.
  __device__ std::uint32_t descend(std::byte* memory, std::byte* second_memory) const {
    std::uint32_t keys_read = 0;
    std::int32_t next = warp * 8;
    Descent<T, kHeadDim> current;
    Descent<T, kHeadDim> other;
#pragma unroll 1
    while (current.live || other.live || next < chunks.count) {
      const SharedTile<T, kHeadDim> tile(memory);
      bool done = !current.live;
      wait_for_groups<1>();
      __syncwarp();
      if (!done) {
        float left;
        float right;
        score(tile, left, right);
        done = !current.step(left, right, keys_read);
        if (done && lane() % 4 == 0) scores[current.first + lane() / 4] = current.best();
      }
      if (done) {
        current.live = false;
        if (next < chunks.count) {
          start(current, next);
          next += num_warps * 8;
        }
      }
      __syncwarp();  // all have read what the next level's keys overwrite
      if (current.live) current.request(kv, tile, any);
      commit_copies();
      if (second_memory) {
        const Descent<T, kHeadDim> rotated = current;
        current = other;
        other = rotated;
        std::byte* const rotated_memory = memory;
        memory = second_memory;
        second_memory = rotated_memory;
      } else {
        commit_copies();  // an empty group: wait_for_groups<1> waits for what was asked for
      }
    }
    return keys_read;
  }

  /// The rule `centre`: one key a chunk, sixteen chunks to a warp.
  __device__ std::uint32_t centres(std::byte* memory) const {
    const SharedTile<T, kHeadDim> tile(memory);
    std::uint32_t keys_read = 0;
#pragma unroll 1
    for (std::int32_t first = warp * 16; first < chunks.count; first += num_warps * 16) {
      const std::int32_t upper_chunk = first + lane() / 4;
      const std::int32_t lower_chunk = upper_chunk + 8;
      const T* const upper_row = centre_row(upper_chunk);
      const T* const lower_row = centre_row(lower_chunk);
      tile.copy(
          [&](int row) {
            const auto address =
                reinterpret_cast<unsigned long long>(row < 8 ? upper_row : lower_row);
            return reinterpret_cast<const T*>(__shfl_sync(0xffffffffu, address, row % 8 * 4));
          },
          any);
      wait_for_copies();
      __syncwarp();
      float upper;
      float lower;
      score(tile, upper, lower);
      if (lane() % 4 == 0) {
        scores[upper_chunk] = upper_row ? upper : -INFINITY;
        scores[lower_chunk] = lower_row ? lower : -INFINITY;
      }
      keys_read += (upper_chunk < chunks.count) + (lower_chunk < chunks.count);
    }
    return keys_read;
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  __device__ void start(Descent<T, kHeadDim>& descent, std::int32_t first) const {
    descent.first = first;
    const std::int32_t chunk = first + lane() / 4;
    const std::int32_t l = chunk < chunks.count ? chunks.start(chunk) : 0;
    const std::int32_t r = chunk < chunks.count ? min(l + chunks.chunk_size, end) : 0;
    descent.start(kv, l, r);
  }

  __device__ const T* centre_row(std::int32_t chunk) const {
    if (chunk >= chunks.count) return nullptr;
    const std::int32_t start = chunks.start(chunk);
    const auto slot = kv.slot(start + (min(start + chunks.chunk_size, end) - start) / 2);
    return slot.page < 0 ? nullptr : kv.key(slot);
  }

  /// a(j) of the quad's two keys, -inf where every product is NaN.
  __device__ void score(const SharedTile<T, kHeadDim>& tile, float& upper, float& lower) const {
    upper = lower = -INFINITY;
#pragma unroll 1
    for (int i = 0; i < query_tiles; ++i) {
      float c[4];
      tile.multiply(queries + i * kRowsPerTile * kQueryPitch<kHeadDim>, kQueryPitch<kHeadDim>, c);
      upper = fmaxf(upper, fmaxf(c[0], c[1]));  // fmaxf passes NaN over
      lower = fmaxf(lower, fmaxf(c[2], c[3]));
    }
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) {
      upper = fmaxf(upper, __shfl_xor_sync(0xffffffffu, upper, lanes));
      lower = fmaxf(lower, __shfl_xor_sync(0xffffffffu, lower, lanes));
    }
  }
};

}  // namespace hip_attn::cuda
