/// Stage "scan" on the GPU: chunks of keys descend on tensor cores, eight to a warp.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/kv_rows.cuh"
#include "hip_attn/cuda/queries.cuh"

namespace hip_attn::cuda {

/// a(j) of the two keys of each quad of lanes, -inf where the row is null or every product NaN.
template <typename T, int kHeadDim>
struct KeyScorer {
  const T* queries;  ///< pooled rows in shared memory
  int tiles;         ///< of kRowsPerTile rows

  __device__ void operator()(const T* upper_row, const T* lower_row, float& upper,
                             float& lower) const {
    KeyTile<T, kHeadDim> keys;
    keys.load(upper_row, lower_row);
    upper = lower = -INFINITY;
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      float c[4];
      keys.multiply(queries + tile * kRowsPerTile * kQueryPitch<kHeadDim>, kQueryPitch<kHeadDim>,
                    c);
      upper = fmaxf(upper, fmaxf(c[0], c[1]));  // fmaxf passes NaN over
      lower = fmaxf(lower, fmaxf(c[2], c[3]));
    }
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) {
      upper = fmaxf(upper, __shfl_xor_sync(0xffffffffu, upper, lanes));
      lower = fmaxf(lower, __shfl_xor_sync(0xffffffffu, lower, lanes));
    }
    if (!upper_row) upper = -INFINITY;
    if (!lower_row) lower = -INFINITY;
  }
};

/// The score of one chunk [l, r) per quad of lanes by binary descent (docs/algorithm.md, "Scoring a
/// chunk"), eight chunks to a warp; a quad with l == r idles. Adds to keys_read.
template <typename T, int kHeadDim>
__device__ float descend(const KvRows<T>& kv, const KeyScorer<T, kHeadDim>& score_keys,
                         std::int32_t l, std::int32_t r, std::uint32_t& keys_read) {
  const auto row_at = [&](bool wanted, std::int32_t position) -> const T* {
    if (!wanted) return nullptr;
    const auto slot = kv.slot(position);
    return slot.page < 0 ? nullptr : kv.key(slot);
  };
  float best = -INFINITY;
  const bool single = r - l == 1;
  if (__any_sync(0xffffffffu, single)) {
    float a;
    float unused;
    score_keys(row_at(single, l), nullptr, a, unused);
    if (single) best = a;
    keys_read += single;
  }
  while (__any_sync(0xffffffffu, r - l > 1)) {
    const bool active = r - l > 1;
    const std::int32_t m = l + (r - l) / 2;
    float left;
    float right;
    score_keys(row_at(active, l + (m - l) / 2), row_at(active, m + (r - m) / 2), left, right);
    if (active) {
      best = fmaxf(best, fmaxf(left, right));
      keys_read += 2;
      if (left >= right) {
        r = m;
      } else {
        l = m;
      }
    }
  }
  return best;
}

/// scores[i] of all chunks i < count, shared out over the warps of the team; start_of(i) is chunk
/// i's first key, `end` bounds the last chunk. Returns the keys that this thread's quad read
/// (meaningful in lanes that are multiples of 4).
template <typename T, int kHeadDim, typename StartOf>
__device__ std::uint32_t score_chunks(const KvRows<T>& kv, const KeyScorer<T, kHeadDim>& score_keys,
                                      bool centre, std::int32_t count, std::int32_t chunk_size,
                                      std::int32_t end, StartOf&& start_of, int warp, int num_warps,
                                      float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto end_of = [&](std::int32_t start) { return min(start + chunk_size, end); };
  std::uint32_t keys_read = 0;
  if (centre) {  // one key a chunk: sixteen chunks to a warp
#pragma unroll 1
    for (std::int32_t first = warp * 16; first < count; first += num_warps * 16) {
      const std::int32_t upper_chunk = first + lane / 4;
      const std::int32_t lower_chunk = upper_chunk + 8;
      const auto row_of = [&](std::int32_t chunk) -> const T* {
        if (chunk >= count) return nullptr;
        const std::int32_t start = start_of(chunk);
        const auto slot = kv.slot(start + (end_of(start) - start) / 2);
        return slot.page < 0 ? nullptr : kv.key(slot);
      };
      float upper;
      float lower;
      score_keys(row_of(upper_chunk), row_of(lower_chunk), upper, lower);
      if (lane % 4 == 0 && upper_chunk < count) scores[upper_chunk] = upper;
      if (lane % 4 == 0 && lower_chunk < count) scores[lower_chunk] = lower;
      keys_read += (upper_chunk < count) + (lower_chunk < count);
    }
    return keys_read;
  }
#pragma unroll 1
  for (std::int32_t first = warp * 8; first < count; first += num_warps * 8) {
    const std::int32_t chunk = first + lane / 4;
    const std::int32_t l = chunk < count ? start_of(chunk) : 0;
    const std::int32_t r = chunk < count ? end_of(l) : 0;
    const float best = descend(kv, score_keys, l, r, keys_read);
    if (lane % 4 == 0 && chunk < count) scores[chunk] = best;
  }
  return keys_read;
}

}  // namespace hip_attn::cuda
