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

  /// The keys of the tiles of both slots: lane i has key i % 16 of the tile of slot i / 16.
  struct Keys {
    std::int32_t position;  ///< INT32_MAX: past the last key
    std::uint32_t bad;      ///< keys whose page is none, bit i that of lane i
  };

  /// The same before they are asked for.
  struct Place {
    std::int32_t position;
    bool bad;
    const T* key;  ///< a row that exists, whatever the page
    const T* value;
  };

  /// queries: the tile of eight rows; row i sees positions up to last_position[i].
  /// All rows see positions up to all_see.
  __device__ WarpAttention(const DecodeParams<T>& params, const KvRows<T>& kv, const T* queries,
                           const std::int32_t (&last_position)[2], std::int32_t all_see)
      : params_(params),
        kv_(kv),
        queries_(queries),
        last_position_{last_position[0], last_position[1]},
        all_see_(all_see) {}

  /// Looks up this lane's key of tile `tile`, which is that of the lane's slot. There are `count`
  /// keys; tiles past them may be looked up, but not requested. No lane branches, so that all pages
  /// are on their way at once.
  __device__ Place locate(const DecodeKeys& keys, std::int32_t tile, std::int32_t count) const {
    const std::int32_t last = count - 1;
    const std::int32_t first = min(tile, last / kKeysPerTile) * kKeysPerTile;
    const std::int32_t index = min(first + lane() % kKeysPerTile, last);
    Place place;
    place.position = keys.position(index);
    const auto slot = kv_.slot(place.position);
    place.bad = slot.page < 0;
    place.key = place.bad ? params_.kv.k.data : kv_.key(slot);
    place.value = place.bad ? params_.kv.v.data : kv_.value(slot);
    if (first + lane() % kKeysPerTile > last) place.position = INT32_MAX;
    return place;
  }

  /// What attend() needs to know of the tiles at `place`.
  __device__ static Keys keys_at(const Place& place) {
    return {place.position, __ballot_sync(kAll, place.bad)};
  }

  /// Starts to copy the keys and values of the tile of slot s to `slot`.
  __device__ void request(const Place& place, int s, std::byte* slot) const {
    // Lanes hand over addresses where the copies will go.
    const std::uint32_t list = shared_address(slot);
    if (lane() / kKeysPerTile == s) {
      store_shared_8(list + lane() % kKeysPerTile * 8, place.key);
      store_shared_8(list + (kKeysPerTile + lane() % kKeysPerTile) * 8, place.value);
    }
    __syncwarp();
    using Rows = typename SharedTile<T, kHeadDim>::Rows;
    const Rows keys = Rows::from_list(list);
    const Rows values = Rows::from_list(list + kKeysPerTile * 8);
    __syncwarp();
    SharedTile<T, kHeadDim>(slot).copy(keys);
    SharedTile<T, kHeadDim>(slot + kTileBytes<kHeadDim>).copy(values);
  }

  /// Attends to the tile of slot s, whose copies have arrived for this thread.
  __device__ void attend(const Keys& keys, int s, std::byte* slot) {
    __syncwarp();  // and for the others
    const int first = s * kKeysPerTile + lane() / 4;
    float logits[4];
    const typename SharedTile<T, kHeadDim>::Queries queries(queries_, kQueryPitch<kHeadDim>);
    SharedTile<T, kHeadDim>(slot).multiply(queries, logits);
#pragma unroll
    for (float& logit : logits) logit *= params_.scale_log2;
    if (params_.softcap_log2 > 0.f) [[unlikely]] {
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        rotate_in(logits, soft_cap(logits[0], params_.softcap_log2));
      }
    }
    // Keys g and g + 8: a page that is none makes the rows that see it NaN.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t at = __shfl_sync(kAll, keys.position, first + 8 * half);
      const bool is_bad = keys.bad >> (first + 8 * half) & 1u;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& logit = logits[2 * half + i];
        if (is_bad) logit = NAN;
        if (at > last_position_[i]) logit = -INFINITY;
      }
    }
    accumulate(logits, keys.position, s, SharedTile<T, kHeadDim>(slot + kTileBytes<kHeadDim>));
    __syncwarp();  // the next tile's values overwrite these
  }

  /// Leaves the state: out [8][kOutPitch], max and sum one `pitch` from row to row, up to
  /// num_rows.
  __device__ void store(float* out, float* row_max, float* row_sum, int pitch, int num_rows) const {
    const int g = lane() / 4;
    const int row = lane() % 4 * 2;
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
      float sum = sum_[i];
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) sum += __shfl_xor_sync(kAll, sum, lanes);
      if (g != 0 || row + i >= num_rows) continue;
      row_max[(row + i) * pitch] = max_[i];
      row_sum[(row + i) * pitch] = sum;
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  __device__ static void rotate_in(float (&values)[4], float last) {
    values[0] = values[1];
    values[1] = values[2];
    values[2] = values[3];
    values[3] = last;
  }

  __device__ void accumulate(float (&logits)[4], std::int32_t position, int s,
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
      sum_[i] = sum_[i] * rescale[i] + (logits[i] + logits[2 + i]);
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
    const std::uint32_t beyond = __ballot_sync(kAll, position > all_see_);
    if ((beyond >> s * kKeysPerTile & 0xffffu) != 0) [[unlikely]]
      keep_out(logits, position, s, values);
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

  /// Makes room for a product with keys that not all rows see, because a weight of 0 would not keep
  /// infinity and NaN from the rows that must not see them: they are taken out of the tile. Values
  /// that later rows see and earlier ones do not are added row by row before.
  __device__ void keep_out(const float (&weights)[4], std::int32_t position, int s,
                           const SharedTile<T, kHeadDim>& values) {
    const int g = lane() / 4;
    const int first = s * kKeysPerTile;
    const std::uint32_t none = __ballot_sync(kAll, position == INT32_MAX) >> first & 0xffffu;
    std::uint32_t late = __ballot_sync(kAll, position > all_see_) >> first & 0xffffu & ~none;
    if (none != 0) values.clear_from(__ffs(none) - 1);  // the last keys of the last tile
#pragma unroll 1
    for (; late != 0; late &= late - 1) {
      const int key = __ffs(late) - 1;
      const std::int32_t at = __shfl_sync(kAll, position, first + key);
      float weight[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float upper = __shfl_sync(kAll, weights[i], key % 8 * 4 + lane() % 4);
        const float lower = __shfl_sync(kAll, weights[2 + i], key % 8 * 4 + lane() % 4);
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
  const T* queries_;
  std::int32_t last_position_[2];
  std::int32_t all_see_;
  float out_[kHeadDim / 16][4] = {};  ///< transposed: dims g, g + 8 of each 16, rows 2t, 2t + 1
  float max_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {};  ///< of this lane's keys
};

}  // namespace hip_attn::cuda
