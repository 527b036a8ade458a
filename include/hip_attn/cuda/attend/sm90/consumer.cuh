/// A consumer warpgroup of the Hopper attend kernel: its query rows against the tiles of a unit.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attend/sm90/policy.cuh"
#include "hip_attn/cuda/attend/sm90/row_softmax.cuh"
#include "hip_attn/cuda/prefill_params.hpp"
#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/lanes.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/query_rows.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"

namespace hip_attn::cuda::sm90 {

/// With (g, t) = (lane / 4, lane % 4) a thread holds columns 8 j + 2 t, 8 j + 2 t + 1 of rows g and
/// g + 8 of its warp's 16: elements 4 j, 4 j + 1 and 4 j + 2, 4 j + 3.
template <typename Traits, int kTiles, typename Policy>
class AttendConsumer {
 public:
  using Element = typename Traits::Element;
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  using Params = PrefillParams<Stored>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Shared = AttendShared<Policy>;

  __device__ AttendConsumer(const Params& params, Shared& shared)
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
      if (has_rows(info)) {
        attend(info);
      } else if (task == UnitInfo::Task::kAttend) {
        skip(info.count);
      } else {
        fill(info, task == UnitInfo::Task::kFillZero ? 0.f : NAN);
      }
      arrive(shared_.unit_empty[unit_.slot]);
      unit_.advance();
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kRows = kTiles * kRowsPerTile;
  using Logits = RowSoftmax::Logits;
  using Out = float[kHeadDim / 2];

  /// Row r of the unit is query row r / group with head r % group of the KV head's.
  __device__ std::int64_t row_of(const UnitInfo& info, std::int32_t r) const {
    return info.first_row + r / params_.group;
  }
  __device__ std::int64_t head_of(const UnitInfo& info, std::int32_t r) const {
    return std::int64_t{info.kv_head} * params_.group + r % params_.group;
  }

  /// The first (row, head) of this warpgroup.
  __device__ std::int32_t first_of(const UnitInfo& info) const {
    return info.first + warpgroup_ * kRows;
  }
  /// The unit is to be attended to, and has rows for this warpgroup.
  __device__ bool has_rows(const UnitInfo& info) const {
    return info.task == UnitInfo::Task::kAttend && first_of(info) < info.rows * params_.group;
  }

  __device__ void fill(const UnitInfo& info, float value) const {
    const std::int32_t first = first_of(info);
    const std::int32_t end = min(first + kRows, info.rows * params_.group);
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroupThreads;
#pragma unroll 1
    for (std::int32_t r = first; r < end; ++r) {
      const std::int64_t row = row_of(info, r);
      const std::int64_t head = head_of(info, r);
      for (int d = thread; d < kHeadDim; d += kWarpgroupThreads) {
        write_out<Element>(
            params_.tensors.out,
            row * params_.tensors.out.row_stride + head * params_.tensors.out.head_stride + d,
            value);
      }
      if (params_.tensors.lse && thread == 0) {
        params_.tensors.lse[row * params_.tensors.lse_row_stride + head] =
            value == 0.f ? -INFINITY : NAN;
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

  /// The factor of products that orders logits as products are ordered: see load_queries.
  __device__ float multiplier() const {
    const bool plain = params_.logits.softcap_log2 == 0.f && params_.logits.scale_log2 != 0.f;
    return plain ? fabsf(params_.logits.scale_log2) : 1.f;
  }

  /// Calls visit(r, piece, where) for the pieces of 16 bytes of the queries that this thread
  /// copies: row r of the warpgroup's, at `where` behind shared_.queries.
  template <typename Visit>
  __device__ void for_each_query_piece(Visit&& visit) const {
    constexpr int kPieces = kHeadDim / 8;
    const int tiles = warpgroup_ * kTiles * Policy::QueryTile::kBytes;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x) % kWarpgroupThreads; i < kRows * kPieces;
         i += kWarpgroupThreads) {
      const int row = i / kPieces;
      visit(row, i % kPieces,
            tiles + row / kRowsPerTile * Policy::QueryTile::kBytes +
                static_cast<int>(Policy::QueryTile::offset(row % kRowsPerTile, i % kPieces)));
    }
  }

  /// Starts to copy a unit's queries to shared memory, zeros past its last row. The warpgroup is
  /// done with those that lie there.
  __device__ void ask_for_queries(const UnitInfo& info) {
    const std::int32_t first = first_of(info);
    const std::int32_t rows = info.rows * params_.group;
    const auto& q = params_.tensors.q;
    const std::uint32_t to = shared_address(shared_.queries);
    const auto group = static_cast<std::uint32_t>(params_.group);
    const std::uint32_t per_group = (0x80000000u + group - 1) / group;  // 2^31 / group
    const std::int64_t origin =
        info.first_query + std::int64_t{info.kv_head} * group * q.head_stride;
    for_each_query_piece([&](int row, int piece, int where) {
      const std::int32_t r = first + row;
      if (r < rows) {
        // r / group without a division: exact while r * group < 2^31.
        const std::uint32_t query_row = __umulhi(2u * static_cast<std::uint32_t>(r), per_group);
        const std::uint32_t head = static_cast<std::uint32_t>(r) - query_row * group;
        copy_queries_async<Element>(
            to + where, q, origin + query_row * q.row_stride + head * q.head_stride + piece * 8);
      } else {
        store_shared_16(to + where, uint4{});
      }
    });
    has_asked_ = true;
  }

  /// While the last values of a unit are weighed the queries of the next one come, if the producer
  /// has announced it. Warps need not agree on that: each waits for its own copies.
  __device__ void ask_for_next_queries() {
    RingPosition<kUnitsAhead> next = unit_;
    next.advance();
    if (!__all_sync(kAll, has_passed_now(shared_.unit_full[next.slot], next.lap))) return;
    const UnitInfo& info = shared_.units[next.slot];
    if (has_rows(info)) ask_for_queries(info);
  }

  /// Waits for a unit's queries. The sign of a scale goes into them, which is exact; so does a
  /// scale of zero.
  __device__ void load_queries(const UnitInfo& info) {
    if (!has_asked_) ask_for_queries(info);  // the warpgroup has met since it used those before
    has_asked_ = false;
    wait_for_copies();
    if (!(params_.logits.scale_log2 > 0.f)) [[unlikely]] {
      const std::uint32_t kept = params_.logits.scale_log2 == 0.f ? 0u : 0xffffffffu;
      for_each_query_piece([&](int, int, int where) {
        auto& piece = *reinterpret_cast<uint4*>(shared_.queries + where);
        for (std::uint32_t* word : {&piece.x, &piece.y, &piece.z, &piece.w}) {
          *word = (*word ^ 0x80008000u) & kept;
        }
      });
    }
    fence_for_tensor_cores();
    sync_warpgroup(warpgroup_);
  }

  /// Every tile of rows against every tile of keys, in steps: while a step's values are multiplied,
  /// the logits of the next step become probabilities. One set of logits serves all steps.
  __device__ void attend(const UnitInfo& info) {
    load_queries(info);
    const std::int32_t first = first_of(info);
    const std::int32_t count = info.count;
    const std::int32_t first_masked = info.count - (info.rows - 1);  // key that not all rows see
    const auto is_masked = [&](std::int32_t tile) {
      if (Policy::kRowWindows && tile < info.hidden_until && tile + kKeysPerTile > info.hidden_from)
        return true;
      return tile + kKeysPerTile > first_masked;
    };
    const std::uint32_t queries = Policy::QueryTile::columns_of(
        shared_address(shared_.queries) + warpgroup_ * kTiles * Policy::QueryTile::kBytes);
    const std::uint32_t slots = shared_address(shared_.slots);
    const auto keys_in = [&](int slot) {
      return Policy::KeyTile::columns_of(slots + slot * Policy::KeyTile::kBytes);
    };
    const float multiplier = this->multiplier();

    Out out[kTiles];
    RowSoftmax rows[kTiles];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
#pragma unroll
      for (float& element : out[m]) element = 0.f;
    }
    Logits logits;
    float rescale[2];
    const bool is_capped = params_.logits.softcap_log2 > 0.f;
    // kPlain: all rows see all keys of the tile, and logits are not capped.
    const auto to_probabilities = [&]<bool kPlain>(int m, std::int32_t tile) {
      if (!kPlain && is_capped) cap(logits);
      if (!kPlain && is_masked(tile)) mask(info, first + m * kRowsPerTile, tile, logits);
      return rows[m].take(logits, multiplier, rescale);
    };

    int keys = wait_for_slot();
    multiply_keys(queries, keys_in(keys), logits);
    wgmma_wait<0>();
    if (kTiles == 1) release(keys);
    to_probabilities.template operator()<false>(0, 0);

    // With kMore another step follows. What products read changes only while none runs: ptxas
    // would serialise all of them.
    const auto step = [&]<int m, bool kMore, bool kPlain>(std::int32_t tile, std::uint32_t values) {
      Packed packed;
      pack(logits, packed);
      bool changed = false;
      constexpr int kNext = (m + 1) % kTiles;
      if constexpr (kMore) {
        if (kNext == 0) keys = wait_for_slot();
        multiply_keys(queries + Policy::QueryTile::step(kNext * Policy::QueryTile::kBytes),
                      keys_in(keys), logits);
      }
      multiply_values(packed, values, out[m]);
      if constexpr (kMore) {
        wgmma_wait<1>();
        if (kNext == kTiles - 1) release(keys);
        changed = to_probabilities.template operator()<kPlain>(
            kNext, kNext > 0 ? tile : tile + kKeysPerTile);
        // Keeps ptxas from moving the wait for the values' product ahead of the probabilities: the
        // sums, which are never negative, need these, and it moves no wait ahead of a branch. Of
        // the branch nothing is left in the end but that order.
        if (__any_sync(kAll, !rows[kNext].is_number())) __syncwarp();
      }
      // All warps of the warpgroup at the same place, as PTX asks for.
      wgmma_wait<0>();
      if constexpr (kMore) {
        if (changed) {
#pragma unroll
          for (int i = 0; i < kHeadDim / 2; ++i) out[kNext][i] *= rescale[i / 2 % 2];
        }
      }
    };
    const auto all_steps = [&]<bool kMore, bool kPlain>(std::int32_t tile) {
      const int slot = wait_for_slot();
      const std::uint32_t values = Policy::KeyTile::rows_of(slots + slot * Policy::KeyTile::kBytes);
      if constexpr (kTiles == 2) step.template operator()<0, true, kPlain>(tile, values);
      if constexpr (!kMore) {
        sync_warpgroup(warpgroup_);  // all warps are done with the unit's queries
        ask_for_next_queries();
      }
      step.template operator()<kTiles - 1, kMore, kPlain>(tile, values);
      if (!kPlain && is_masked(tile) && shared_.not_finite[slot]) [[unlikely]] {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          add_not_finite(info, first + m * kRowsPerTile, tile, shared_.masked_from[slot], out[m]);
        }
      }
      release(slot);
    };
    std::int32_t tile = 0;
    if (!Policy::kRowWindows && !is_capped) {
      // The last step of a tile makes probabilities of the next one.
#pragma unroll 1
      for (; tile + 2 * kKeysPerTile <= first_masked; tile += kKeysPerTile) {
        all_steps.template operator()<true, true>(tile);
      }
    }
#pragma unroll 1
    for (; tile + kKeysPerTile < count; tile += kKeysPerTile) {
      all_steps.template operator()<true, false>(tile);
    }
    all_steps.template operator()<false, false>(tile);
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      store(info, first + m * kRowsPerTile, out[m], rows[m]);
    }
  }

  /// The next slot, once it is full. The fence is here because copies end at no instruction of
  /// their producer.
  __device__ int wait_for_slot() {
    const int slot = next_.slot;
    wait(shared_.slot_full[slot], next_.lap);
    fence_for_tensor_cores();
    next_.advance();
    return slot;
  }

  /// logits [64 rows, 64 keys] = queries x keys.
  __device__ static void multiply_keys(std::uint32_t queries, std::uint32_t keys, Logits& logits) {
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      wgmma_64x64<Element>(logits, Policy::QueryTile::columns(queries, i),
                           Policy::KeyTile::columns(keys, i), i > 0);
    }
    wgmma_commit();
  }

  /// Probabilities as the product with the values reads them.
  using Packed = std::uint32_t[kKeysPerTile / 16][4];

  __device__ static void pack(const Logits& probabilities, Packed& packed) {
#pragma unroll
    for (int i = 0; i < kKeysPerTile / 16; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        packed[i][j] =
            narrow_pair<Element>(probabilities[8 * i + 2 * j], probabilities[8 * i + 2 * j + 1]);
      }
    }
  }

  /// out += probabilities x values.
  __device__ static void multiply_values(const Packed& packed, std::uint32_t values, Out& out) {
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < kKeysPerTile / 16; ++i) {
      wgmma_64xN<Element>(out, packed[i], Policy::KeyTile::rows(values, i));
    }
    wgmma_commit();
  }

  /// Which of the unit's keys a row sees: all but those of the query rows after its own and those
  /// before its window.
  struct Visible {
    std::int32_t end;
    std::int32_t hidden_from;
    std::int32_t hidden_until;

    __device__ bool operator()(std::int32_t key) const {
      return key < end && (!Policy::kRowWindows || key < hidden_from || key >= hidden_until);
    }
  };

  /// Of a thread's row i (0, 1) of a tile.
  __device__ Visible visible(const UnitInfo& info, std::int32_t first, int i) const {
    const std::int32_t last_row = info.rows - 1;
    const std::int32_t rows_after =
        last_row - min((first + row_ + 8 * i) / params_.group, last_row);
    return {info.count - rows_after, info.hidden_from, info.hidden_until - rows_after};
  }

  /// tanh(x) = 1 - 2 / (exp(2 x) + 1): to 1e-7 of the cap, and a tenth of tanhf's code.
  __device__ void cap(Logits& logits) const {
    constexpr float kTwoLog2e = 2.88539008f;
    const float scale = fabsf(params_.logits.scale_log2) * kTwoLog2e;
#pragma unroll
    for (float& logit : logits) {
      const float tanh = 1.f - __fdividef(2.f, exp2_fast(logit * scale) + 1.f);
      logit = params_.logits.softcap_log2 * tanh;
    }
  }

  __device__ void mask(const UnitInfo& info, std::int32_t first, std::int32_t tile,
                       Logits& logits) const {
    const Visible sees[2] = {visible(info, first, 0), visible(info, first, 1)};
#pragma unroll
    for (int i = 0; i < kKeysPerTile / 2; ++i) {
      const std::int32_t key = tile + i / 4 * 8 + lane_ % 4 * 2 + i % 2;
      if (!sees[i / 2 % 2](key)) logits[i] = -INFINITY;
    }
  }

  /// What the producer replaced by 0 reaches the rows that see it: infinities and NaN, whatever
  /// their probability. Read again from the cache: this is rare.
  __device__ void add_not_finite(const UnitInfo& info, std::int32_t first, std::int32_t tile,
                                 std::int32_t masked_from, Out& out) const {
    const Visible sees[2] = {visible(info, first, 0), visible(info, first, 1)};
    const KvRows<Stored> kv(params_.tensors.kv, info.request, info.kv_head);
#pragma unroll 1
    for (int key = tile + masked_from; key < min(tile + kKeysPerTile, info.count); ++key) {
      const RowSlot slot = kv.pages.slot(info.end - (info.count - key));
      if (slot.page < 0) continue;
      const Stored* const value = kv.values.row(slot) + lane_ % 4 * 2;
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) {
        const float element = Loader::element(value + i / 4 * 8 + i % 2);
        if (!isfinite(element) && sees[i / 2 % 2](key)) out[i] += element;
      }
    }
  }

  __device__ void store(const UnitInfo& info, std::int32_t first, const Out& out,
                        const RowSoftmax& rows) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float sum = rows.sum(i);
      const std::int32_t r = first + row_ + 8 * i;
      const bool exists = r < info.rows * params_.group;
      const std::int64_t row = row_of(info, r);
      const std::int64_t head = head_of(info, r);
      const auto& to = params_.tensors.out;
      store_row(out, i, sum == 0.f ? 0.f : 1.f / sum, exists,
                row * to.row_stride + head * to.head_stride);
      if (params_.tensors.lse && lane_ % 4 == 0 && exists) {
        params_.tensors.lse[row * params_.tensors.lse_row_stride + head] = rows.lse(i, sum);
      }
    }
  }

  /// Writes row i of the quad, times `norm`, to `offset` of out if it exists there. A lane writes
  /// 16 bytes at once: the quad's lanes exchange what they hold of 32 columns. Called by the whole
  /// warp.
  __device__ void store_row(const Out& out, int i, float norm, bool exists,
                            std::int64_t offset) const {
    const auto columns = [&](int j) {
      return make_float2(out[4 * j + 2 * i] * norm, out[4 * j + 2 * i + 1] * norm);
    };
    const auto& to = params_.tensors.out;
    if (to.is_float) [[unlikely]] {
      auto* const place = reinterpret_cast<float2*>(elements_at<float>(to, offset)) + lane_ % 4;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        if (exists) place[4 * j] = columns(j);
      }
      return;
    }
    auto* const place = reinterpret_cast<uint4*>(elements_at<Element>(to, offset)) + lane_ % 4;
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; j += 4) {
      std::uint32_t pairs[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float2 values = columns(j + k);
        pairs[k] = narrow_pair<Element>(values.x, values.y);
      }
      transpose_lanes<1>(pairs);
      if (exists) place[j] = {pairs[0], pairs[1], pairs[2], pairs[3]};
    }
  }

  const Params& params_;
  Shared& shared_;
  int warpgroup_;
  int lane_;
  int row_;                 ///< the first of this thread's two rows of a tile
  bool has_asked_ = false;  ///< the queries of the next unit are on their way
  RingPosition<Policy::kSlots> next_;
  RingPosition<kUnitsAhead> unit_;
};

}  // namespace hip_attn::cuda::sm90
