/// A consumer warpgroup of the Hopper attend kernel: its query rows against the tiles of a unit.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/hopper/attend_policy.cuh"
#include "hip_attn/cuda/hopper/barrier.cuh"
#include "hip_attn/cuda/kv_rows.cuh"
#include "hip_attn/cuda/mma.cuh"
#include "hip_attn/cuda/prefill_params.hpp"

namespace hip_attn::cuda::hopper {

__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// With (g, t) = (lane / 4, lane % 4) a thread holds columns 8 j + 2 t, 8 j + 2 t + 1 of rows g and
/// g + 8 of its warp's 16: elements 4 j, 4 j + 1 and 4 j + 2, 4 j + 3.
template <typename T, int kHeadDim, int kTiles, typename Policy>
class AttendConsumer {
 public:
  using Shared = AttendShared<Policy>;

  __device__ AttendConsumer(const PrefillParams<T>& params, Shared& shared)
      : params_(params),
        shared_(shared),
        warpgroup_(__shfl_sync(kAll, static_cast<int>(threadIdx.x) / kWarpgroupThreads, 0)),
        lane_(static_cast<int>(threadIdx.x) % 32),
        row_(static_cast<int>(threadIdx.x) % kWarpgroupThreads / 32 * 16 + lane_ / 4) {}

  __device__ void run() {
    for (;;) {
      wait(shared_.unit_full[unit_.slot], unit_.lap);
      const UnitInfo& info = shared_.units[unit_.slot];
      const UnitInfo::Task task = info.task;
      if (task == UnitInfo::Task::kEnd) return;
      const std::int32_t first = info.first + warpgroup_ * kRows;
      const std::int32_t rows = info.rows * params_.group;  // (row, head) of the unit
      if (task != UnitInfo::Task::kAttend) {
        fill(info, first, task == UnitInfo::Task::kFillZero ? 0.f : NAN);
      } else if (first < rows) {
        attend(info, first);
      } else {
        skip(info.count);
      }
      __syncwarp();
      if (lane_ == 0) arrive(shared_.unit_empty[unit_.slot]);
      unit_.advance();
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kRows = kTiles * kRowsPerTile;
  using Logits = float[kKeysPerTile / 2];
  using Out = float[kHeadDim / 2];

  /// Row r of the unit is query row r / group with head r % group of the KV head's.
  __device__ std::int64_t row_of(const UnitInfo& info, std::int32_t r) const {
    return info.first_row + r / params_.group;
  }
  __device__ std::int64_t head_of(const UnitInfo& info, std::int32_t r) const {
    return std::int64_t{info.kv_head} * params_.group + r % params_.group;
  }

  __device__ void fill(const UnitInfo& info, std::int32_t first, float value) const {
    const std::int32_t end = min(first + kRows, info.rows * params_.group);
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroupThreads;
#pragma unroll 1
    for (std::int32_t r = first; r < end; ++r) {
      const std::int64_t row = row_of(info, r);
      const std::int64_t head = head_of(info, r);
      for (int d = thread; d < kHeadDim; d += kWarpgroupThreads) {
        params_.out[row * params_.out_row_stride + head * params_.out_head_stride + d] =
            narrow<T>(value);
      }
      if (params_.lse && thread == 0) {
        params_.lse[row * params_.lse_row_stride + head] = value == 0.f ? -INFINITY : NAN;
      }
    }
  }

  /// A unit without rows for this warpgroup: its tiles pass by.
  __device__ void skip(std::int32_t count) {
#pragma unroll 1
    for (std::int32_t first = 0; first < count; first += kKeysPerTile) {
      for (int i = 0; i < 2; ++i) {
        wait(shared_.slot_full[next_.slot], next_.lap);
        release(next_.slot);
        next_.advance();
      }
    }
  }

  __device__ void release(int slot) {
    __syncwarp();
    if (lane_ == 0) arrive(shared_.slot_empty[slot]);
  }

  /// The rows from `first` on into shared memory, zeros past the unit's last. A negative scale
  /// goes into their signs, which is exact: logits then order as products do.
  __device__ void load_queries(const UnitInfo& info, std::int32_t first) {
    constexpr int kPieces = kHeadDim / 8;
    sync_warpgroup(warpgroup_);  // the unit before is done with them
    std::byte* tiles = shared_.queries + warpgroup_ * kTiles * Policy::QueryTile::kBytes;
    const std::uint32_t sign = params_.scale_log2 < 0.f ? 0x80008000u : 0u;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x) % kWarpgroupThreads; i < kRows * kPieces;
         i += kWarpgroupThreads) {
      const std::int32_t r = first + i / kPieces;
      uint4 piece{};
      if (r < info.rows * params_.group) {
        piece = *reinterpret_cast<const uint4*>(params_.q + row_of(info, r) * params_.q_row_stride +
                                                head_of(info, r) * params_.q_head_stride +
                                                i % kPieces * 8);
      }
      piece.x ^= sign;
      piece.y ^= sign;
      piece.z ^= sign;
      piece.w ^= sign;
      const int row = i / kPieces;
      *reinterpret_cast<uint4*>(tiles + row / kRowsPerTile * Policy::QueryTile::kBytes +
                                Policy::QueryTile::offset(row % kRowsPerTile, i % kPieces)) = piece;
    }
    fence_for_tensor_cores();
    sync_warpgroup(warpgroup_);
  }

  /// The products of one tile of rows run while the probabilities of another are computed.
  __device__ void attend(const UnitInfo& info, std::int32_t first) {
    load_queries(info, first);
    const std::int32_t count = info.count;
    const std::int32_t last_row = info.rows - 1;
    const std::uint32_t queries =
        shared_address(shared_.queries) + warpgroup_ * kTiles * Policy::QueryTile::kBytes;
    const float multiplier = params_.softcap_log2 > 0.f ? 1.f : fabsf(params_.scale_log2);

    Out out[kTiles];
    float row_max[kTiles][2];
    float row_sum[kTiles][2];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
#pragma unroll
      for (float& element : out[m]) element = 0.f;
      row_max[m][0] = row_max[m][1] = -INFINITY;
      row_sum[m][0] = row_sum[m][1] = 0.f;
    }
#pragma unroll 1
    for (std::int32_t tile = 0; tile < count; tile += kKeysPerTile) {
      const int keys = next_.slot;
      wait(shared_.slot_full[keys], next_.lap);
      next_.advance();
      Logits logits[kTiles];
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        multiply_keys(queries + m * Policy::QueryTile::kBytes, shared_address(shared_.slots[keys]),
                      logits[m]);
      }
      const int values = next_.slot;
      const std::uint32_t lap = next_.lap;
      next_.advance();
      const bool masked = tile + kKeysPerTile > count - last_row;
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        if (m == 0) {
          wgmma_wait<kTiles - 1>();  // another tile's products with the keys run on
        }
        if (params_.softcap_log2 > 0.f) cap(logits[m]);
        if (masked) mask(info, first + m * kRowsPerTile, tile, logits[m]);
        float rescale[2];
        softmax(logits[m], multiplier, row_max[m], row_sum[m], rescale);
        // What products read must not change while others run: ptxas would serialise all of them.
        // They are done by now: they are shorter than a softmax.
        wgmma_wait<0>();
        if (m == 0) release(keys);
        if (__any_sync(kAll, rescale[0] != 1.f || rescale[1] != 1.f)) {
#pragma unroll
          for (int i = 0; i < kHeadDim / 2; ++i) out[m][i] *= rescale[i / 2 % 2];
        }
        if (m == 0) wait(shared_.slot_full[values], lap);
        multiply_values(logits[m], shared_address(shared_.slots[values]), out[m]);
      }
      wgmma_wait<0>();
      if (masked && shared_.not_finite[values]) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          add_not_finite(info, first + m * kRowsPerTile, tile, shared_.masked_from[values][0],
                         out[m]);
        }
      }
      release(values);
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      store(info, first + m * kRowsPerTile, multiplier, out[m], row_max[m], row_sum[m]);
    }
  }

  /// logits [64 rows, 64 keys] = queries x keys.
  __device__ static void multiply_keys(std::uint32_t queries, std::uint32_t keys, Logits& logits) {
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      wgmma_64x64<T>(logits, Policy::QueryTile::columns(queries, i),
                     Policy::KeyTile::columns(keys, i), i > 0);
    }
    wgmma_commit();
  }

  /// out += probabilities x values.
  __device__ static void multiply_values(const Logits& probabilities, std::uint32_t values,
                                         Out& out) {
    std::uint32_t packed[kKeysPerTile / 16][4];
#pragma unroll
    for (int i = 0; i < kKeysPerTile / 16; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        packed[i][j] =
            narrow_pair<T>(probabilities[8 * i + 2 * j], probabilities[8 * i + 2 * j + 1]);
      }
    }
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < kKeysPerTile / 16; ++i) {
      wgmma_64xN<T>(out, packed[i], Policy::KeyTile::rows(values, i));
    }
    wgmma_commit();
  }

  /// The unit's keys that a thread's row i (0, 1) of a tile sees are those below limit(i): all but
  /// the keys of the query rows after its own.
  __device__ std::int32_t limit(const UnitInfo& info, std::int32_t first, int i) const {
    const std::int32_t last_row = info.rows - 1;
    return info.count - (last_row - min((first + row_ + 8 * i) / params_.group, last_row));
  }

  __device__ void cap(Logits& logits) const {
    const float scale = fabsf(params_.scale_log2);
#pragma unroll
    for (float& logit : logits) logit = params_.softcap_log2 * tanhf(logit * scale);
  }

  __device__ void mask(const UnitInfo& info, std::int32_t first, std::int32_t tile,
                       Logits& logits) const {
    const std::int32_t limits[2] = {limit(info, first, 0), limit(info, first, 1)};
#pragma unroll
    for (int i = 0; i < kKeysPerTile / 2; ++i) {
      const std::int32_t key = tile + i / 4 * 8 + lane_ % 4 * 2 + i % 2;
      if (key >= limits[i / 2 % 2]) logits[i] = -INFINITY;
    }
  }

  /// Logits become probabilities relative to the largest so far; row_sum is this thread's part.
  __device__ static void softmax(Logits& logits, float multiplier, float (&row_max)[2],
                                 float (&row_sum)[2], float (&rescale)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float largest = row_max[row];
#pragma unroll
      for (int j = 0; j < kKeysPerTile / 8; ++j) {
        largest = fmaxf(largest, fmaxf(logits[4 * j + 2 * row], logits[4 * j + 2 * row + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, 2));
      const float reference = largest == -INFINITY ? 0.f : largest * multiplier;
      rescale[row] = exp2_approx(row_max[row] * multiplier - reference);
      row_max[row] = largest;
      float sum = 0.f;
#pragma unroll
      for (int j = 0; j < kKeysPerTile / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& logit = logits[4 * j + 2 * row + i];
          logit = exp2_approx(logit * multiplier - reference);
          sum += logit;
        }
      }
      row_sum[row] = row_sum[row] * rescale[row] + sum;
    }
  }

  /// What the producer replaced by 0 reaches the rows that see it: infinities and NaN, whatever
  /// their probability. Read again from the cache: this is rare.
  __device__ void add_not_finite(const UnitInfo& info, std::int32_t first, std::int32_t tile,
                                 std::int32_t masked_from, Out& out) const {
    const std::int32_t limits[2] = {limit(info, first, 0), limit(info, first, 1)};
    const KvRows<T> kv(params_.kv, info.request, info.kv_head);
#pragma unroll 1
    for (int key = tile + masked_from; key < min(tile + kKeysPerTile, info.count); ++key) {
      const auto slot = kv.slot(info.end - (info.count - key));
      if (slot.page < 0) continue;
      const T* value = kv.value(slot) + lane_ % 4 * 2;
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) {
        const float element = widen(value[i / 4 * 8 + i % 2]);
        if (!isfinite(element) && key < limits[i / 2 % 2]) out[i] += element;
      }
    }
  }

  __device__ void store(const UnitInfo& info, std::int32_t first, float multiplier, const Out& out,
                        const float (&row_max)[2], const float (&row_sum)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = row_sum[i];
      sum += __shfl_xor_sync(kAll, sum, 1);
      sum += __shfl_xor_sync(kAll, sum, 2);
      const std::int32_t r = first + row_ + 8 * i;
      if (r >= info.rows * params_.group) continue;
      const std::int64_t row = row_of(info, r);
      const std::int64_t head = head_of(info, r);
      const float norm = sum == 0.f ? 0.f : 1.f / sum;
      T* to = params_.out + row * params_.out_row_stride + head * params_.out_head_stride +
              lane_ % 4 * 2;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        *reinterpret_cast<std::uint32_t*>(to + 8 * j) =
            narrow_pair<T>(out[4 * j + 2 * i] * norm, out[4 * j + 2 * i + 1] * norm);
      }
      if (params_.lse && lane_ % 4 == 0) {
        constexpr float kLog2 = 0.693147181f;
        params_.lse[row * params_.lse_row_stride + head] =
            sum == 0.f ? -INFINITY : (row_max[i] * multiplier + log2f(sum)) * kLog2;
      }
    }
  }

  const PrefillParams<T>& params_;
  Shared& shared_;
  int warpgroup_;
  int lane_;
  int row_;  ///< the first of this thread's two rows of a tile
  RingPosition<Policy::kSlots> next_;
  RingPosition<kUnitsAhead> unit_;
};

}  // namespace hip_attn::cuda::hopper
