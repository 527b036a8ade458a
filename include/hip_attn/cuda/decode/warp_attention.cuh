/// Stage "attend" on the GPU: warps attend 16 keys at a time, up to two such tiles on the way.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode/params.hpp"
#include "hip_attn/cuda/decode/unchecked_keys.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"

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
template <typename Traits>
class WarpAttention {
 public:
  using Element = typename Traits::Element;
  using Stored = StoredOf<Traits>;
  using Params = DecodeParams<Stored>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  static_assert(kRowsPerTile * kOutPitch<kHeadDim> * 4 <= 2 * kTileBytes<kHeadDim>);

  /// The keys of the tiles of both slots: lane i has key i % 16 of the tile of slot i / 16.
  struct Keys {
    std::int32_t position;  ///< INT32_MAX: past the last key
    std::uint32_t bad;      ///< keys whose page is none, bit i that of lane i
  };

  /// A lane's key, its page on the way.
  struct Lookup {
    std::int32_t index;
    std::int32_t position;  ///< of the last key when index is past it; -1: none
    std::int32_t page;
  };

  using Tile = SharedTile<Traits>;
  using Queries = typename Tile::Queries;

  /// queries: the tile of eight rows; rows 2t and 2t + 1 see positions up to last_position.
  /// All rows see positions up to all_see, where they have no window of their own.
  __device__ WarpAttention(const Params& params, const KvRows<Stored>& kv, const Queries& queries,
                           const std::int32_t (&last_position)[2], std::int32_t all_see,
                           const AttendedKeys& keys)
      : params_(params),
        kv_(kv),
        queries_(queries),
        last_position_{last_position[0], last_position[1]},
        all_see_(all_see),
        keys_(keys) {}

  /// Looks up a key whose place among the keys, and position or that of the last key, are given.
  /// Nothing waits for the block table, nor branches, so that all pages are on their way at once.
  __device__ static Lookup look_up(const Params& params, const KvRows<Stored>& kv,
                                   std::int32_t index, std::int32_t position) {
    // Lengths need not have been checked.
    const bool exists =
        static_cast<std::uint32_t>(position) < static_cast<std::uint32_t>(params.max_seq_len);
    return {index, position, kv.pages.page_where(position, exists)};
  }

  /// What attend() needs to know of the tiles looked up, of `count` keys.
  __device__ Keys keys_at(const Lookup& of, std::int32_t count) const {
    const bool bad = kv_.pages.slot(of.position, of.page).page < 0;
    return {of.index < count ? of.position : INT32_MAX, __ballot_sync(kAll, bad)};
  }

  using Rows = typename Tile::Rows;

  /// The rows of a key that was looked up and of its value; any that exist when it has no page.
  struct Place {
    const Stored* key;
    const Stored* value;
  };
  __device__ static Place place_of(const KvRows<Stored>& kv, const Lookup& of) {
    RowSlot slot = kv.pages.slot(of.position, of.page);
    if (slot.page < 0) slot = {0, 0};
    return {kv.keys.row(slot), kv.values.row(slot)};
  }

  /// Starts to copy a tile to `slot`, of which the first `count` keys exist: the values of the
  /// others become zeros, which their weight, 0, alone would not make of infinity and NaN.
  __device__ static void copy(const Rows& keys, const Rows& values, std::int32_t count,
                              std::byte* slot) {
    Tile(slot).copy(keys);
    Tile(slot + kTileBytes<kHeadDim>).copy(values, count);
  }

  /// Starts to copy the tile of slot s, of which `count` keys exist, to `slot`.
  __device__ static void request(const Place& place, int s, std::int32_t count, std::byte* slot) {
    // Lists lie where the copies will go.
    const std::uint32_t key_list = Tile::list(slot, place.key);
    const std::uint32_t value_list = Tile::list(slot + Tile::kListBytes, place.value);
    __syncwarp();
    const Rows keys = Rows::from_list(key_list, s);
    const Rows values = Rows::from_list(value_list, s);
    __syncwarp();
    copy(keys, values, count, slot);
  }

  /// Attends to the tile of slot s, whose copies have arrived for this thread. kAllSee: all rows
  /// see all keys, and logits are not capped.
  template <bool kAllSee>
  __device__ void attend(const Keys& keys, int s, std::byte* slot) {
    __syncwarp();  // and for the others
    const int first = s * kKeysPerTile + lane() / 4;
    float logits[4];
    Tile(slot).multiply(queries_, logits);
#pragma unroll
    for (float& logit : logits) logit *= params_.logits.scale_log2;
    if (!kAllSee && params_.logits.softcap_log2 > 0.f) [[unlikely]] {
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        rotate_in(logits, soft_cap(logits[0], params_.logits.softcap_log2));
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
        if (kAllSee ? at == INT32_MAX : !sees(i, at)) logit = -INFINITY;
      }
    }
    accumulate<kAllSee>(logits, keys.position, s, Tile(slot + kTileBytes<kHeadDim>));
    __syncwarp();  // the next tile's values overwrite these
  }

  /// Leaves the state: out [8][kOutPitch], {max, sum} one `pitch` from row to row, up to num_rows.
  __device__ void store(float* out, float2* states, int pitch, int num_rows) const {
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
      states[(row + i) * pitch] = make_float2(max_[i], sum);
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  /// A key of the window that begins too early for the row at position p.
  __device__ bool is_before_window(std::int32_t position, std::int32_t p) const {
    return position >= keys_.window_start && position < p + 1 - params_.search.row_window;
  }
  /// Row 2t + i sees the key at this position.
  __device__ bool sees(int i, std::int32_t position) const {
    return position <= last_position_[i] && !is_before_window(position, last_position_[i]);
  }

  __device__ static void rotate_in(float (&values)[4], float last) {
    values[0] = values[1];
    values[1] = values[2];
    values[2] = values[3];
    values[3] = last;
  }

  template <bool kAllSee>
  __device__ void accumulate(float (&logits)[4], std::int32_t position, int s, const Tile& values) {
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
    if constexpr (!kAllSee) {
      const bool is_for_some = (position > all_see_ && position != INT32_MAX) ||
                               is_before_window(position, keys_.end - 1);
      const std::uint32_t for_some = __ballot_sync(kAll, is_for_some) >> s * kKeysPerTile & 0xffffu;
      if (for_some != 0) [[unlikely]]
        keep_out(logits, position, s, for_some, values);
    }
    // [keys, rows] as a product leaves it, to [rows, keys] as the next product reads it.
    const std::uint32_t b0 = transpose_8x8(narrow_pair<Element>(logits[0], logits[1]));
    const std::uint32_t b1 = transpose_8x8(narrow_pair<Element>(logits[2], logits[3]));
#pragma unroll
    for (int m = 0; m < kHeadDim / 16; ++m) {
      std::uint32_t a[4];
      values.load_transposed(m, a);
      mma_16x8x16<Element>(out_[m], a[0], a[1], a[2], a[3], b0, b1);
    }
  }

  /// Makes room for a product with keys that not all rows see, because a weight of 0 would not keep
  /// infinity and NaN from the rows that must not see them: they are taken out of the tile. Values
  /// that some rows see and others do not are added row by row before.
  __device__ void keep_out(const float (&weights)[4], std::int32_t position, int s,
                           std::uint32_t for_some, const Tile& values) {
    const int g = lane() / 4;
    const int first = s * kKeysPerTile;
#pragma unroll 1
    for (; for_some != 0; for_some &= for_some - 1) {
      const int key = __ffs(for_some) - 1;
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
          if (!sees(i, at)) continue;
          out_[m][i] += weight[i] * low;
          out_[m][2 + i] += weight[i] * high;
        }
      }
      __syncwarp();
      values.clear_row(key);
    }
    __syncwarp();
  }

  const Params& params_;
  const KvRows<Stored>& kv_;
  Queries queries_;
  std::int32_t last_position_[2];
  std::int32_t all_see_;
  const AttendedKeys& keys_;
  float out_[kHeadDim / 16][4] = {};  ///< transposed: dims g, g + 8 of each 16, rows 2t, 2t + 1
  float max_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {};  ///< of this lane's keys
};

}  // namespace hip_attn::cuda
