/// Stage "attend" on the GPU: warps attend 16 keys at a time, partial softmax states are combined.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/kv_rows.cuh"
#include "hip_attn/cuda/queries.cuh"

namespace hip_attn::cuda {

inline constexpr int kKeysPerTile = 16;

/// The keys a unit attends to, in ascending order: [0, sink_end), blocks, [window_start, end).
struct AttendedKeys {
  std::int32_t sink_end;
  const std::int32_t* blocks;  ///< blocks[i] * block_scale is the first key of block i
  std::int32_t num_blocks;
  std::int32_t block_scale;
  std::int32_t block_shift;  ///< log2(block_k)
  std::int32_t window_start;
  std::int32_t end;

  __device__ std::int32_t count() const {
    return sink_end + (num_blocks << block_shift) + max(0, end - window_start);
  }

  __device__ std::int32_t position(std::int32_t i) const {
    if (i < sink_end) return i;
    i -= sink_end;
    if (i < num_blocks << block_shift) {
      const auto within = i & ((1 << block_shift) - 1);
      return blocks[i >> block_shift] * block_scale + within;
    }
    return window_start + i - (num_blocks << block_shift);
  }
};

/// Shared memory of one warp: the values of a tile, later its partial output.
template <int kHeadDim>
struct WarpTile {
  /// Padded so that the four lanes of a quad, two rows apart, write to different banks.
  static constexpr int kOutPitch = kHeadDim + 4;
  static constexpr int kBytes = kRowsPerTile * kOutPitch * 4;  // > the values' 16 * kHeadDim * 2
};

/// Online softmax of eight query rows over the tiles that one warp is given. With (g, t) = (lane /
/// 4, lane % 4) a lane holds rows 2t and 2t + 1. Logits are in units of log 2.
template <typename T, int kHeadDim>
class WarpAttention {
 public:
  /// queries: the tile of eight rows; values: WarpTile bytes of this warp.
  __device__ WarpAttention(const DecodeParams<T>& params, const KvRows<T>& kv, const T* queries,
                           std::byte* values)
      : params_(params), kv_(kv), queries_(queries), values_(shared_address(values)) {}

  /// Where one key of a tile lies; lane i holds key i % 16.
  struct KeyPlace {
    std::int32_t position;
    unsigned long long key;  ///< address, 0 when there is nothing to read
    unsigned long long value;
    bool wanted;
  };

  /// Looks keys [first, first + 16) of `keys` up. Apart from attend(), so that the next tile's
  /// block table entries arrive while this tile is worked on.
  __device__ KeyPlace locate(const AttendedKeys& keys, std::int32_t first,
                             std::int32_t count) const {
    const std::int32_t index = first + static_cast<int>(threadIdx.x) % kKeysPerTile;
    KeyPlace place{INT32_MAX, 0, 0, index < count};
    if (!place.wanted) return place;
    place.position = keys.position(index);
    const auto slot = kv_.slot(place.position);
    if (slot.page < 0) return place;
    place.key = reinterpret_cast<unsigned long long>(kv_.key(slot));
    place.value = reinterpret_cast<unsigned long long>(kv_.value(slot));
    return place;
  }

  /// Attends to a tile; row i sees positions up to last_position[i].
  __device__ void attend(const KeyPlace& place, const std::int32_t (&last_position)[2]) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    load_values(place.value);
    KeyTile<T, kHeadDim> tile;
    tile.load(reinterpret_cast<const T*>(__shfl_sync(kAll, place.key, g)),
              reinterpret_cast<const T*>(__shfl_sync(kAll, place.key, g + 8)));
    float logits[4];
    tile.multiply(queries_, kQueryPitch<kHeadDim>, logits);

    // Keys g and g + 8: a page that is none makes the rows that see it NaN.
    const std::uint32_t bad = __ballot_sync(kAll, place.wanted && place.key == 0);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t at = __shfl_sync(kAll, place.position, g + 8 * half);
      const bool is_bad = bad >> (g + 8 * half) & 1u;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& logit = logits[2 * half + i];
        logit *= params_.scale_log2;
        if (params_.softcap_log2 > 0.f) logit = params_.softcap_log2 * tanhf(logit);
        if (is_bad) logit = NAN;
        if (at > last_position[i]) logit = -INFINITY;
      }
    }
    accumulate(logits);
  }

  /// Leaves the state in shared memory: out [8][kOutPitch], max and sum [8].
  __device__ void store(float* out, float* row_max, float* row_sum) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int g = lane / 4;
    const int row = lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < kHeadDim / 16; ++m) {
      float* element = out + row * WarpTile<kHeadDim>::kOutPitch + m * 16 + g;
      element[0] = out_[m][0];
      element[WarpTile<kHeadDim>::kOutPitch] = out_[m][1];
      element[8] = out_[m][2];
      element[WarpTile<kHeadDim>::kOutPitch + 8] = out_[m][3];
    }
    if (g == 0) {
      row_max[row] = max_[0];
      row_max[row + 1] = max_[1];
      row_sum[row] = sum_[0];
      row_sum[row + 1] = sum_[1];
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kPieces = kHeadDim / 8;  // of 16 bytes in a row

  /// Where piece p of value row r lies: pieces are permuted within groups of eight by the row, so
  /// that the eight rows of a matrix load come from different banks.
  __device__ std::uint32_t value_address(int row, int piece) const {
    return values_ + (row * kPieces + (piece ^ (row & 7))) * 16;
  }

  __device__ void load_values(unsigned long long value_row) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < kKeysPerTile * kPieces / 32; ++i) {
      const int row = (i * 32 + lane) / kPieces;
      const int piece = (i * 32 + lane) % kPieces;
      // Every lane of the warp takes part in the shuffle.
      const auto* from = reinterpret_cast<const T*>(__shfl_sync(kAll, value_row, row));
      copy_async_16(value_address(row, piece), from ? from + piece * 8 : params_.kv.v.data, from);
    }
  }

  __device__ void accumulate(float (&logits)[4]) {
    float rescale[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float tile_max = fmaxf(logits[i], logits[2 + i]);
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) {
        tile_max = fmaxf(tile_max, __shfl_xor_sync(kAll, tile_max, lanes));
      }
      const float new_max = fmaxf(max_[i], tile_max);
      const float reference = new_max == -INFINITY ? 0.f : new_max;
      rescale[i] = exp2f(max_[i] - reference);
      logits[i] = exp2f(logits[i] - reference);
      logits[2 + i] = exp2f(logits[2 + i] - reference);
      float tile_sum = logits[i] + logits[2 + i];
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) {
        tile_sum += __shfl_xor_sync(kAll, tile_sum, lanes);
      }
      sum_[i] = sum_[i] * rescale[i] + tile_sum;
      max_[i] = new_max;
    }
    // [keys, rows] as a product leaves it, to [rows, keys] as the next product reads it.
    const std::uint32_t b0 = transpose_8x8(narrow_pair<T>(logits[0], logits[1]));
    const std::uint32_t b1 = transpose_8x8(narrow_pair<T>(logits[2], logits[3]));
    wait_for_copies();
    __syncwarp();
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int value = lane / 16 * 8 + lane % 8;
#pragma unroll
    for (int m = 0; m < kHeadDim / 16; ++m) {
      std::uint32_t a[4];
      load_matrices_transposed(a, value_address(value, m * 2 + lane / 8 % 2));
      out_[m][0] *= rescale[0];
      out_[m][1] *= rescale[1];
      out_[m][2] *= rescale[0];
      out_[m][3] *= rescale[1];
      mma_16x8x16<T>(out_[m], a[0], a[1], a[2], a[3], b0, b1);
    }
    __syncwarp();  // the next tile's values overwrite these
  }

  const DecodeParams<T>& params_;
  const KvRows<T>& kv_;
  const T* queries_;
  std::uint32_t values_;
  float out_[kHeadDim / 16][4] = {};  ///< transposed: dims g, g + 8 of each 16, rows 2t, 2t + 1
  float max_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {};
};

/// States of one row that are merged at once, one to a lane of half a warp.
inline constexpr int kMaxParts = 16;

/// Softmax states of one row merged by kMaxParts neighbouring lanes, lane i bringing state i
/// (max -inf, sum 0: none). Every lane gets the result and its own state's weight exp2(max_i -
/// max).
struct MergedState {
  float max;
  float sum;
  float weight;

  __device__ MergedState(float part_max, float part_sum) : max(part_max) {
#pragma unroll
    for (int lanes = kMaxParts / 2; lanes > 0; lanes /= 2) {
      max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, lanes));
    }
    weight = part_max == -INFINITY ? 0.f : exp2f(part_max - max);
    sum = weight * part_sum;
#pragma unroll
    for (int lanes = kMaxParts / 2; lanes > 0; lanes /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    }
  }
};

/// sum over i < parts of weights[i] * value_of(i).
template <typename ValueOf>
__device__ float merge_values(int parts, const float* weights, ValueOf&& value_of) {
  float merged = 0.f;
#pragma unroll 8
  for (int i = 0; i < parts; ++i) merged += weights[i] * value_of(i);
  return merged;
}

}  // namespace hip_attn::cuda
