/// Stage "attend" of prefill for compute capability 8.0 and newer: a thread block attends for 64
/// query rows of a unit, tiles of 64 gathered keys and values pass through shared memory, and four
/// warps of sixteen rows keep an online softmax each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/attend/unit_keys.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/query_rows.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"
#include "hip_attn/cuda/tuning.hpp"

namespace hip_attn::cuda::sm80 {

inline constexpr int kAttendWarps = Sm80AttendTuning{}.warps;
inline constexpr int kAttendThreads = 32 * kAttendWarps;
inline constexpr int kAttendRows = 16 * kAttendWarps;  ///< query rows of a thread block
inline constexpr int kAttendKeys = Sm80AttendTuning{}.keys;

/// Rows of 16-byte pieces in shared memory: pieces are permuted within groups of eight by the row,
/// so that the eight rows of a matrix load come from different banks.
template <int kHeadDim>
struct SharedRows {
  static constexpr int kPieces = tile_dim(kHeadDim) / 8;
  std::byte* bytes;

  __device__ uint4* piece(int row, int p) const {
    return reinterpret_cast<uint4*>(bytes) + row * kPieces + (p ^ (row & 7));
  }
  __device__ std::uint32_t address(int row, int p) const { return shared_address(piece(row, p)); }
};

template <typename Traits>
struct AttendShared {
  static constexpr int kHeadDim = Traits::kHeadDim;
  static constexpr int kBuffers = kernel_tuning(kHeadDim).attend_sm80.buffers;
  static constexpr std::size_t kRowBytes = tile_dim(kHeadDim) * sizeof(typename Traits::Element);

  struct Tile {
    std::byte keys[kAttendKeys * kRowBytes];
    std::byte values[kAttendKeys * kRowBytes];
    /// Of each key; ~position: on a page that is none; INT32_MAX: no key.
    std::int32_t positions[kAttendKeys];
    std::uint32_t masked[kAttendWarps];  ///< some key of the warp's sixteen is not for every row
  };
  std::byte queries[kAttendRows * kRowBytes];
  Tile tiles[kBuffers];
  unsigned long long not_finite;  ///< keys whose values are added by hand
};

/// 64 rows of one unit.
template <typename Traits>
class AttendTile {
  using Element = typename Traits::Element;
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  using Params = PrefillParams<Stored>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Shared = AttendShared<Traits>;
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kPieces = kHeadDim / 8;

 public:
  __device__ AttendTile(const Params& params, const QueryBlock& block,
                        const AttendedKeys& unit_keys, int kv_head, int first_row, Shared& shared)
      : params_(params),
        block_(block),
        kv_(params.tensors.kv, block.request, kv_head),
        kv_head_(kv_head),
        first_row_(first_row),
        num_rows_(min(kAttendRows, block.rows * params.group - first_row)),
        keys_(keys_of_rows(unit_keys)),
        count_(keys_.count()),
        shared_(shared) {}

  __device__ void run() {
    load_queries();
    Place place = locate(0);
    load(place, 0);
    place = locate(kAttendKeys);
#pragma unroll 1
    for (std::int32_t first = 0, buffer = 0; first < count_; first += kAttendKeys) {
      if constexpr (Shared::kBuffers == 2) {
        load(place, buffer ^ 1);
        place = locate(first + 2 * kAttendKeys);
        wait_for_groups<1>();
      } else {
        wait_for_groups<0>();
      }
      __syncthreads();
      attend(shared_.tiles[buffer]);
      __syncthreads();
      if constexpr (Shared::kBuffers == 2) {
        buffer ^= 1;
      } else {
        load(place, 0);
        place = locate(first + 2 * kAttendKeys);
      }
    }
    wait_for_groups<0>();
    store();
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int lane() { return thread() % 32; }
  __device__ static int warp() { return thread() / 32; }

  /// What only earlier or later tiles of rows see is not even read.
  __device__ AttendedKeys keys_of_rows(const AttendedKeys& unit_keys) const {
    AttendedKeys keys = unit_keys.until(position_of(num_rows_ - 1), INT32_MAX);
    keys.window_start = max(unit_keys.window_start, position_of(0) + 1 - params_.search.row_window);
    return keys;
  }

  /// Every row of the unit sees the key at this position.
  __device__ bool is_for_every_row(std::int32_t position) const {
    const bool before_a_window = position >= keys_.window_start &&
                                 position < block_.p0 + block_.rows - params_.search.row_window;
    return position >= 0 && position <= block_.p0 && !before_a_window;
  }

  /// Offset in q.
  __device__ std::int64_t query(int row) const {
    const int unit_row = first_row_ + row;
    return block_.first_query(params_.tensors.q) +
           unit_row / params_.group * params_.tensors.q.row_stride +
           (kv_head_ * params_.group + unit_row % params_.group) * params_.tensors.q.head_stride;
  }

  /// Rows behind the last repeat it.
  __device__ void load_queries() {
    const SharedRows<kHeadDim> to{shared_.queries};
#pragma unroll
    for (int i = 0; i < kAttendRows * kPieces / kAttendThreads; ++i) {
      const int at = i * kAttendThreads + thread();
      const int row = at / kPieces;
      copy_queries_async<Element>(to.address(row, at % kPieces), params_.tensors.q,
                                  query(min(row, num_rows_ - 1)) + at % kPieces * 8);
    }
  }

  /// Where one key of a tile lies; lane i holds key i % 16 of its warp's sixteen.
  struct Place {
    std::int32_t position = INT32_MAX;
    const Stored* key = nullptr;  ///< null: nothing to read
    const Stored* value = nullptr;
  };

  /// Apart from load(), so that block table entries arrive while a tile is worked on.
  __device__ Place locate(std::int32_t first) const {
    Place place;
    const std::int32_t index = first + warp() * 16 + lane() % 16;
    if (index >= count_) return place;
    place.position = keys_.position(index);
    const RowSlot slot = kv_.pages.slot(place.position);
    if (slot.page < 0) {
      place.position = ~place.position;
    } else {
      place.key = kv_.keys.row(slot);
      place.value = kv_.values.row(slot);
    }
    return place;
  }

  /// Starts the copies of a tile, zeros where there is nothing to read.
  __device__ void load(const Place& place, int buffer) {
    auto& tile = shared_.tiles[buffer];
    const SharedRows<kHeadDim> keys{tile.keys};
    const SharedRows<kHeadDim> values{tile.values};
#pragma unroll 4
    for (int i = 0; i < 16 * kPieces / 32; ++i) {
      const int row = (i * 32 + lane()) / kPieces;
      const int piece = (i * 32 + lane()) % kPieces;
      const auto* key = shuffle(place.key, row);
      const auto* value = shuffle(place.value, row);
      const auto* fallback = static_cast<const Stored*>(params_.tensors.q.data);
      Loader::copy(keys.address(warp() * 16 + row, piece), key ? key + piece * 8 : fallback, key);
      Loader::copy(values.address(warp() * 16 + row, piece), value ? value + piece * 8 : fallback,
                   value);
    }
    commit_copies();
    const bool masked = __any_sync(kAll, !is_for_every_row(place.position));
    if (lane() < 16) tile.positions[warp() * 16 + lane()] = place.position;
    if (lane() == 0) tile.masked[warp()] = masked;
  }

  __device__ static const Stored* shuffle(const Stored* pointer, int from_lane) {
    return reinterpret_cast<const Stored*>(
        __shfl_sync(kAll, reinterpret_cast<unsigned long long>(pointer), from_lane));
  }

  __device__ void attend(typename Shared::Tile& tile) {
    bool masked = false;
#pragma unroll
    for (int i = 0; i < kAttendWarps; ++i) masked |= tile.masked[i] != 0;
    unsigned long long by_hand = 0;
    if (masked) by_hand = take_out_values_not_finite(tile);

    float p[kAttendKeys / 8][4];
    multiply_queries(tile, p);
    softmax(tile, masked, p);
    multiply_values(tile, p);
    if (by_hand) add_values(tile, by_hand, p);
  }

  /// Of keys that not every row sees: 0 times infinity is NaN, so a probability of 0 does not keep
  /// such a value out of a row's sum. Puts zeros in their place and returns their keys.
  __device__ unsigned long long take_out_values_not_finite(typename Shared::Tile& tile) {
    constexpr std::uint32_t kExponent = std::is_same_v<Element, float16> ? 0x7c00u : 0x7f80u;
    if (thread() == 0) shared_.not_finite = 0;
    __syncthreads();
    const SharedRows<kHeadDim> values{tile.values};
#pragma unroll 1
    for (int i = thread(); i < kAttendKeys * kPieces; i += kAttendThreads) {
      const int key = i / kPieces;
      if (is_for_every_row(tile.positions[key])) continue;
      uint4* piece = values.piece(key, i % kPieces);
      std::uint32_t words[4];
      *reinterpret_cast<uint4*>(words) = *piece;
      bool finite = true;
#pragma unroll
      for (std::uint32_t& word : words) {
        if ((word & kExponent) == kExponent) word &= 0xffff0000u, finite = false;
        if ((word >> 16 & kExponent) == kExponent) word &= 0xffffu, finite = false;
      }
      if (finite) continue;
      *piece = *reinterpret_cast<uint4*>(words);
      atomicOr(&shared_.not_finite, 1ull << key);
    }
    __syncthreads();
    return shared_.not_finite;
  }

  /// p = queries [16 of this warp] x keys [64]. With (g, t) = (lane / 4, lane % 4), p[n][0],
  /// p[n][1] are row g with keys 8 n + 2 t, 8 n + 2 t + 1; p[n][2], p[n][3] row g + 8.
  __device__ void multiply_queries(const typename Shared::Tile& tile,
                                   float (&p)[kAttendKeys / 8][4]) const {
    const SharedRows<kHeadDim> queries{const_cast<std::byte*>(shared_.queries)};
    const SharedRows<kHeadDim> keys{const_cast<std::byte*>(tile.keys)};
#pragma unroll
    for (auto& tile_of_8 : p) {
#pragma unroll
      for (float& value : tile_of_8) value = 0.f;
    }
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      std::uint32_t a[4];
      load_matrices(a, queries.address(warp() * 16 + lane() % 16, k * 2 + lane() / 16));
#pragma unroll
      for (int n = 0; n < kAttendKeys / 8; n += 2) {
        std::uint32_t b[4];
        load_matrices(b,
                      keys.address(n * 8 + lane() / 16 * 8 + lane() % 8, k * 2 + lane() / 8 % 2));
        mma_16x8x16<Element>(p[n], a[0], a[1], a[2], a[3], b[0], b[1]);
        mma_16x8x16<Element>(p[n + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
      }
    }
  }

  /// From products to probabilities relative to the row maxima so far; rescales what was summed.
  __device__ void softmax(const typename Shared::Tile& tile, bool masked,
                          float (&p)[kAttendKeys / 8][4]) {
#pragma unroll
    for (int n = 0; n < kAttendKeys / 8; ++n) {
#pragma unroll
      for (float& logit : p[n]) {
        logit *= params_.logits.scale_log2;
        if (params_.logits.softcap_log2 > 0.f) logit = params_.logits.softcap_log2 * tanhf(logit);
      }
    }
    if (masked) mask(tile, p);
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // rows g and g + 8
      float new_max = max_[half];
#pragma unroll
      for (int n = 0; n < kAttendKeys / 8; ++n) {
        new_max = fmaxf(new_max, fmaxf(p[n][2 * half], p[n][2 * half + 1]));
      }
      new_max = fmaxf(new_max, __shfl_xor_sync(kAll, new_max, 1));
      new_max = fmaxf(new_max, __shfl_xor_sync(kAll, new_max, 2));
      const float reference = new_max == -INFINITY ? 0.f : new_max;
      const float rescale = exp2f(max_[half] - reference);
      max_[half] = new_max;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < kAttendKeys / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          p[n][i] = exp2f(p[n][i] - reference);
          sum += p[n][i];
        }
      }
      sum_[half] = sum_[half] * rescale + sum;  // of this lane's keys alone
#pragma unroll
      for (auto& out : out_) {
        out[2 * half] *= rescale;
        out[2 * half + 1] *= rescale;
      }
    }
  }

  __device__ void mask(const typename Shared::Tile& tile, float (&p)[kAttendKeys / 8][4]) const {
    std::int32_t row_position[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) row_position[half] = position_of(row_of(half));
#pragma unroll
    for (int n = 0; n < kAttendKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int32_t key = tile.positions[n * 8 + lane() % 4 * 2 + i % 2];
        if (key < 0) p[n][i] = NAN;  // for the rows that see it
        const std::int32_t position = key < 0 ? ~key : key;
        const std::int32_t end = row_position[i / 2] + 1;
        const bool before_window =
            position >= keys_.window_start && position < end - params_.search.row_window;
        if (position >= end || before_window) p[n][i] = -INFINITY;
      }
    }
  }

  __device__ int row_of(int half) const { return warp() * 16 + lane() / 4 + half * 8; }

  __device__ std::int32_t position_of(int row) const {
    return block_.p0 + (first_row_ + min(row, num_rows_ - 1)) / params_.group;
  }

  __device__ void multiply_values(const typename Shared::Tile& tile,
                                  const float (&p)[kAttendKeys / 8][4]) {
    const SharedRows<kHeadDim> values{const_cast<std::byte*>(tile.values)};
#pragma unroll
    for (int k = 0; k < kAttendKeys / 16; ++k) {
      const std::uint32_t a[4] = {narrow_pair<Element>(p[2 * k][0], p[2 * k][1]),
                                  narrow_pair<Element>(p[2 * k][2], p[2 * k][3]),
                                  narrow_pair<Element>(p[2 * k + 1][0], p[2 * k + 1][1]),
                                  narrow_pair<Element>(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; n += 2) {
        std::uint32_t b[4];
        load_matrices_transposed(b, values.address(k * 16 + lane() % 16, n + lane() / 16));
        mma_16x8x16<Element>(out_[n], a[0], a[1], a[2], a[3], b[0], b[1]);
        mma_16x8x16<Element>(out_[n + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
      }
    }
  }

  /// What take_out_values_not_finite took out, for the rows that see it.
  __device__ void add_values(const typename Shared::Tile& tile, unsigned long long by_hand,
                             const float (&p)[kAttendKeys / 8][4]) {
#pragma unroll 1
    for (; by_hand; by_hand &= by_hand - 1) {
      const int key = __ffsll(static_cast<long long>(by_hand)) - 1;
      float weights[2] = {};
#pragma unroll
      for (int n = 0; n < kAttendKeys / 8; ++n) {
        if (n != key / 8) continue;
        weights[0] = key % 2 ? p[n][1] : p[n][0];
        weights[1] = key % 2 ? p[n][3] : p[n][2];
      }
      const int source = (lane() & ~3) + key % 8 / 2;
      weights[0] = __shfl_sync(kAll, weights[0], source);
      weights[1] = __shfl_sync(kAll, weights[1], source);
      const Stored* value = kv_.values.row(kv_.pages.slot(tile.positions[key]));
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float x = Loader::element(value + n * 8 + lane() % 4 * 2 + i);
          if (isfinite(x)) continue;
          if (weights[0] != 0.f) out_[n][i] += weights[0] * x;
          if (weights[1] != 0.f) out_[n][2 + i] += weights[1] * x;
        }
      }
    }
  }

  __device__ void store() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = sum_[half];
      sum += __shfl_xor_sync(kAll, sum, 1);
      sum += __shfl_xor_sync(kAll, sum, 2);
      const int row = row_of(half);
      if (row >= num_rows_) continue;
      const int unit_row = first_row_ + row;
      const std::int64_t q_row = block_.first_row + unit_row / params_.group;
      const std::int64_t head = kv_head_ * params_.group + unit_row % params_.group;
      const float norm = sum == 0.f ? 0.f : 1.f / sum;
      const auto& out = params_.tensors.out;
      const std::int64_t offset = q_row * out.row_stride + head * out.head_stride + lane() % 4 * 2;
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
        write_out<Element>(out, offset + n * 8,
                           make_float2(out_[n][2 * half] * norm, out_[n][2 * half + 1] * norm));
      }
      if (params_.tensors.lse && lane() % 4 == 0) {
        constexpr float kLog2 = 0.693147181f;
        params_.tensors.lse[q_row * params_.tensors.lse_row_stride + head] =
            sum == 0.f ? -INFINITY : (max_[half] + log2f(sum)) * kLog2;
      }
    }
  }

  const Params& params_;
  const QueryBlock& block_;
  KvRows<Stored> kv_;
  int kv_head_;
  int first_row_;
  int num_rows_;
  AttendedKeys keys_;
  std::int32_t count_;
  Shared& shared_;
  float out_[kHeadDim / 8][4] = {};
  float max_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {};
};

/// out = value and the lse of nothing (0) or of NaN, for 64 rows of a unit.
template <typename Traits>
__device__ void fill_attend_rows(const PrefillParams<StoredOf<Traits>>& params,
                                 const QueryBlock& block, int kv_head, int first_row, float value) {
  const int rows = min(kAttendRows, block.rows * params.group - first_row);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < rows * Traits::kHeadDim; i += kAttendThreads) {
    const int unit_row = first_row + i / Traits::kHeadDim;
    const std::int64_t q_row = block.first_row + unit_row / params.group;
    const std::int64_t head = kv_head * params.group + unit_row % params.group;
    write_out<typename Traits::Element>(params.tensors.out,
                                        q_row * params.tensors.out.row_stride +
                                            head * params.tensors.out.head_stride +
                                            i % Traits::kHeadDim,
                                        value);
    if (params.tensors.lse && i % Traits::kHeadDim == 0) {
      params.tensors.lse[q_row * params.tensors.lse_row_stride + head] =
          value == 0.f ? -INFINITY : NAN;
    }
  }
}

/// One block per tile of rows. The order of units is the search's.
template <typename Traits>
__global__ void __launch_bounds__(kAttendThreads)
    attend_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
  extern __shared__ __align__(128) std::byte shared_memory[];
  auto& shared = *reinterpret_cast<AttendShared<Traits>*>(shared_memory);
  const int row_tiles = (params.max_rows + kAttendRows - 1) / kAttendRows;
  const std::int64_t tiles = std::int64_t{params.selection_rows} * params.num_kv_heads * row_tiles;
#pragma unroll 1
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const std::int64_t unit = tile / row_tiles;
    const auto kv_head = static_cast<int>(unit / params.selection_rows);
    const auto row =
        static_cast<std::int32_t>(params.selection_rows - 1 - unit % params.selection_rows);
    const int first_row = static_cast<int>(tile % row_tiles) * kAttendRows;
    const QueryBlock block = find_query_block(params, row);
    if (first_row >= block.rows * params.group) continue;  // kNone among them
    if (block.kind != QueryBlock::Kind::kAttend) {
      const float value = block.kind == QueryBlock::Kind::kPadding ? 0.f : NAN;
      fill_attend_rows<Traits>(params, block, kv_head, first_row, value);
      continue;
    }
    const AttendedKeys keys = unit_keys<true>(params, block, row, kv_head);
    if (keys.num_blocks < 0) {
      fill_attend_rows<Traits>(params, block, kv_head, first_row, NAN);
      continue;
    }
    if (first_row == 0 && threadIdx.x < 32) count_attended<true>(params, block, keys);
    __syncthreads();  // the tile before is done with the memory
    AttendTile<Traits>(params, block, keys, kv_head, first_row, shared).run();
  }
}

}  // namespace hip_attn::cuda::sm80
