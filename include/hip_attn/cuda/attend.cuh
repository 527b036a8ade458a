/// Stage "attend" on the GPU: warps attend 16 keys at a time, up to two such tiles on the way.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attended_keys.cuh"
#include "hip_attn/cuda/kv_rows.cuh"
#include "hip_attn/cuda/queries.cuh"
#include "hip_attn/cuda/tile_memory.cuh"

namespace hip_attn::cuda {

/// Pitch of the rows that a warp leaves: the four lanes of a quad, two rows apart, write to
/// different banks.
template <int kHeadDim>
inline constexpr int kOutPitch = kHeadDim + 4;

/// c * tanh(x / c) for logits: 1 - 2 / (e^2y + 1), whose error of 2e-7 * c no softmax sees, in a
/// tenth of tanhf's code.
__device__ inline float soft_cap(float x_over_c, float c) {
  constexpr float kTwoLog2e = 2.88539008f;
  return c - __fdividef(2.f * c, exp2_fast(x_over_c * kTwoLog2e) + 1.f);
}

/// Online softmax of eight query rows over the tiles that one warp is given. With (g, t) = (lane /
/// 4, lane % 4) a lane holds rows 2t and 2t + 1. Logits are in units of log 2.
template <typename T, int kHeadDim>
class WarpAttention {
 public:
  static_assert(kRowsPerTile * kOutPitch<kHeadDim> * 4 <= 2 * kTileBytes<kHeadDim>);

  /// What is kept of a tile while its keys are on their way.
  struct Tile {
    std::int32_t position;  ///< of key lane % 16
    std::uint32_t bad;      ///< keys whose page is none, a bit each
  };

  /// The same before they are asked for. Lanes 0 to 15 find the keys, lanes 16 to 31 the values.
  struct Place {
    std::int32_t position;
    unsigned long long row;  ///< address, 0 when there is nothing to read
    bool wanted;
  };

  /// queries: the tile of eight rows; row i sees positions up to last_position[i].
  /// All rows see positions up to all_see.
  __device__ WarpAttention(const DecodeParams<T>& params, const KvRows<T>& kv, const T* queries,
                           const std::int32_t (&last_position)[2], std::int32_t all_see)
      : params_(params),
        kv_(kv),
        rows_(threadIdx.x % 32 < 16 ? kv.keys() : kv.values()),
        queries_(queries),
        last_position_{last_position[0], last_position[1]},
        all_see_(all_see) {}

  /// Looks keys [first, first + 16) of `keys` up.
  __device__ Place locate(const AttendedKeys& keys, std::int32_t first, std::int32_t count) const {
    const std::int32_t index = first + static_cast<int>(threadIdx.x) % kKeysPerTile;
    Place place{INT32_MAX, 0, index < count};
    if (!place.wanted) return place;
    place.position = keys.position(index);
    const auto slot = kv_.slot(place.position);
    if (slot.page >= 0) {
      place.row = reinterpret_cast<unsigned long long>(
          rows_.base + (slot.page * rows_.page_stride + slot.offset * rows_.token_stride));
    }
    return place;
  }

  /// Starts to copy the keys and values of a tile into a slot.
  __device__ Tile request(const Place& place, std::byte* slot) const {
    const auto row = [&](int lane) {
      return reinterpret_cast<const T*>(__shfl_sync(kAll, place.row, lane));
    };
    SharedTile<T, kHeadDim>(slot).copy(row, params_.kv.k.data);
    SharedTile<T, kHeadDim>(slot + kTileBytes<kHeadDim>)
        .copy([&](int i) { return row(16 + i); }, params_.kv.v.data);
    return {place.position, __ballot_sync(kAll, place.wanted && place.row == 0)};
  }

  /// Attends to a tile whose copies have arrived for this thread.
  __device__ void attend(const Tile& tile, std::byte* slot) {
    __syncwarp();  // and for the others
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    float logits[4];
    SharedTile<T, kHeadDim>(slot).multiply(queries_, kQueryPitch<kHeadDim>, logits);

    // Keys g and g + 8: a page that is none makes the rows that see it NaN.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t at = __shfl_sync(kAll, tile.position, g + 8 * half);
      const bool is_bad = tile.bad >> (g + 8 * half) & 1u;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& logit = logits[2 * half + i];
        logit *= params_.scale_log2;
        if (params_.softcap_log2 > 0.f) logit = soft_cap(logit, params_.softcap_log2);
        if (is_bad) logit = NAN;
        if (at > last_position_[i]) logit = -INFINITY;
      }
    }
    accumulate(logits, tile.position, SharedTile<T, kHeadDim>(slot + kTileBytes<kHeadDim>));
    __syncwarp();  // the next tile's values overwrite these
  }

  /// Leaves the state: out [8][kOutPitch], max and sum one `pitch` from row to row, up to
  /// num_rows.
  __device__ void store(float* out, float* row_max, float* row_sum, int pitch, int num_rows) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int g = lane / 4;
    const int row = lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < kHeadDim / 16; ++m) {
      float* element = out + row * kOutPitch<kHeadDim> + m * 16 + g;
      element[0] = out_[m][0];
      element[kOutPitch<kHeadDim>] = out_[m][1];
      element[8] = out_[m][2];
      element[kOutPitch<kHeadDim> + 8] = out_[m][3];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (g != 0 || row + i >= num_rows) continue;
      row_max[(row + i) * pitch] = max_[i];
      row_sum[(row + i) * pitch] = sum_[i];
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ void accumulate(float (&logits)[4], std::int32_t position,
                             const SharedTile<T, kHeadDim>& values) {
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
      rescale[i] = exp2_fast(max_[i] - reference);
      logits[i] = exp2_fast(logits[i] - reference);
      logits[2 + i] = exp2_fast(logits[2 + i] - reference);
      float tile_sum = logits[i] + logits[2 + i];
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) {
        tile_sum += __shfl_xor_sync(kAll, tile_sum, lanes);
      }
      sum_[i] = sum_[i] * rescale[i] + tile_sum;
      max_[i] = new_max;
    }
    if (__any_sync(kAll, rescale[0] != 1.f || rescale[1] != 1.f)) {
#pragma unroll
      for (int m = 0; m < kHeadDim / 16; ++m) {
        out_[m][0] *= rescale[0];
        out_[m][1] *= rescale[1];
        out_[m][2] *= rescale[0];
        out_[m][3] *= rescale[1];
      }
    }
    const bool is_late = position > all_see_ && position != INT32_MAX;
    const std::uint32_t late = __ballot_sync(kAll, is_late) & 0xffffu;
    if (late != 0) add_late(logits, position, late, values);
    // [keys, rows] as a product leaves it, to [rows, keys] as the next product reads it.
    const std::uint32_t b0 = transpose_8x8(narrow_pair<T>(logits[0], logits[1]));
    const std::uint32_t b1 = transpose_8x8(narrow_pair<T>(logits[2], logits[3]));
#pragma unroll
    for (int m = 0; m < kHeadDim / 16; ++m) {
      std::uint32_t a[4];
      values.load_transposed(m, a);
      mma_16x8x16<T>(out_[m], a[0], a[1], a[2], a[3], b0, b1);
    }
  }

  /// Adds the values of the keys in `late`, which the later of several rows see and the earlier do
  /// not, row by row, and takes them out of the tile: in a product a weight of 0 would not keep
  /// infinity and NaN from the rows that must not see them.
  __device__ void add_late(const float (&weights)[4], std::int32_t position, std::uint32_t late,
                           const SharedTile<T, kHeadDim>& values) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int g = lane / 4;
#pragma unroll 1
    for (; late != 0; late &= late - 1) {
      const int key = __ffs(late) - 1;
      const std::int32_t at = __shfl_sync(kAll, position, key);
      float weight[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float upper = __shfl_sync(kAll, weights[i], key % 8 * 4 + lane % 4);
        const float lower = __shfl_sync(kAll, weights[2 + i], key % 8 * 4 + lane % 4);
        weight[i] = key < 8 ? upper : lower;
      }
#pragma unroll
      for (int m = 0; m < kHeadDim / 16; ++m) {
        const float low = values.element(key, m * 16 + g);
        const float high = values.element(key, m * 16 + g + 8);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (at > last_position_[i]) continue;
          out_[m][i] += weight[i] * low;
          out_[m][2 + i] += weight[i] * high;
        }
      }
      __syncwarp();
      values.clear_row(key);
    }
    __syncwarp();
  }

  const DecodeParams<T>& params_;
  const KvRows<T>& kv_;
  typename KvRows<T>::Rows rows_;  ///< keys or values
  const T* queries_;
  std::int32_t last_position_[2];
  std::int32_t all_see_;
  float out_[kHeadDim / 16][4] = {};  ///< transposed: dims g, g + 8 of each 16, rows 2t, 2t + 1
  float max_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {};
};

}  // namespace hip_attn::cuda
