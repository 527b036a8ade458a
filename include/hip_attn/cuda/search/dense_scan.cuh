/// A stage of the search as a dense product (compute capability 9.0 alone): pooled query rows
/// against a stream of landmarks, or of all keys of the stage's chunks, by wgmma. Each warpgroup
/// has a ring of tiles of its own, which it fills by asynchronous copies ahead of its products;
/// what hides latency besides is that several warpgroups share a multiprocessor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/register.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/ptx/wgmma.cuh"
#include "hip_attn/cuda/rows/swizzled_tile.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"
#include "hip_attn/cuda/search/dense_masses.cuh"
#include "hip_attn/cuda/search/dense_sources.cuh"

namespace hip_attn::cuda {

/// A pooled query tile in registers, as the left factor of products.
template <int kHeadDim>
struct DenseQueries {
  std::uint32_t words[kHeadDim / 16][4];

  /// From a SwizzledTile of 64 rows. Called by a warpgroup.
  __device__ void load(std::uint32_t tile) {
    using Tile = sm90::SwizzledTile<kDenseRows, kHeadDim>;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = static_cast<int>(threadIdx.x) / 32 % 4 * 16 + lane % 16;
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      load_matrices(words[i], tile + Tile::offset(row, 2 * i + lane / 16));
    }
  }
};

/// Rows of a tile that a warpgroup copies at once, eight lanes to each.
inline constexpr int kDensePassRows = 16;
inline constexpr int kDensePasses = kDenseRows / kDensePassRows;
/// Tiles of a ring.
inline constexpr int kDenseSlots = 3;

/// What a warpgroup notes of the rows that it copies, in shared memory.
struct alignas(16) DenseNotes {
  /// [warp][rows of an even step, then of the next]: where they lie, those that one lane copies
  /// side by side.
  unsigned long long addresses[4][2 * kDensePassRows];
  std::uint16_t present[kDenseSlots][4];  ///< [slot][warp], bits: which rows of a tile are there
};

/// Scans the sum tiles `first`, `first` + `stride`, ... of a stage for one tile of query rows with
/// one warpgroup, and leaves their masses.
template <typename Traits, typename Source>
class DenseScan {
 public:
  using Element = typename Traits::Element;
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Tile = sm90::SwizzledTile<kDenseRows, kHeadDim>;
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr bool kIsLandmarks = Source::kIsLandmarks;
  /// Columns of a product.
  static constexpr int kColumns = kIsLandmarks ? kLandmarksPerStep : kDenseRows;

  /// warpgroup: this one, the same value in a register of all lanes. ring: kDenseSlots tiles of it.
  __device__ DenseScan(const Source& source, const DenseMasses& masses, LogitScale logits,
                       std::int32_t num_chunks, int row_tile, const Stored* fallback_row,
                       int warpgroup, std::uint32_t ring, DenseNotes& notes)
      : source_(source),
        masses_(masses),
        logits_(logits),
        num_chunks_(uniform(num_chunks)),
        lane_(__shfl_sync(kAll, threadIdx.x, threadIdx.x) % 32u),
        warp_(uniform(static_cast<int>(threadIdx.x / 32u % 4u))),
        row_(row_tile * kDenseRows + warp_ * 16 + lane() / 4 * 2),
        fallback_row_(fallback_row),
        warpgroup_(warpgroup),
        ring_(ring),
        notes_(notes),
        tile_shift_(uniform(kSumTileShift - source.step_shift())) {}

  __device__ void run(const DenseQueries<kHeadDim>& queries, int first, int stride) {
    const int in_tile = (1 << tile_shift_) - 1;
    // Step i of this warpgroup.
    const auto step_of = [&](std::int32_t i) {
      return ((first + (i >> tile_shift_) * stride) << tile_shift_) + (i & in_tile);
    };
    const std::int32_t steps = count_steps(first, stride);
    // The halves of a warp look up the rows of two steps, an even one and the next, before the
    // copies of the even one start.
    const auto own_step = [&](std::int32_t even) {
      const std::int32_t step = even + lane() / 16;
      return step < steps ? step_of(step) : num_chunks_;
    };
    look_up(own_step(0));
    find_row();
    look_up(own_step(2));
#pragma unroll 1
    for (int i = 0; i < 2; ++i) {
      if (i < steps) copy(i, i);
      commit_copies();
    }
    int slot = 0;
#pragma unroll 1
    for (std::int32_t i = 0; i < steps; ++i) {
      wait_for_groups<1>();
      sm90::fence_for_tensor_cores();
      // The warpgroup has copied the rows of this step and is done with the slot of the step
      // before, which the copies below fill.
      sm90::sync_warpgroup(warpgroup_);
      const uint2 present = present_of(slot);
      float c[kColumns / 2];
      multiply(queries, slot, c, [&] {
        if (i % 2 == 0) {
          find_row();
          look_up(own_step(i + 4));
        }
        if (i + 2 < steps) copy(slot == 0 ? kDenseSlots - 1 : slot - 1, i % 2);
        commit_copies();
      });
      const std::int32_t step = step_of(i);
      take(c, step, present, (i & in_tile) == 0);
      if ((i & in_tile) == in_tile || i + 1 == steps) end_tile(step >> tile_shift_);
      slot = slot + 1 == kDenseSlots ? 0 : slot + 1;
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  /// What follows from it is found anew where it is needed: kept in registers, it would spill.
  __device__ int lane() const { return static_cast<int>(in_register(lane_) % 32u); }
  __device__ int warp() const { return warp_; }

  // ---- Copies -----------------------------------------------------------------------------------

  /// The steps of this warpgroup.
  __device__ std::int32_t count_steps(int first, int stride) const {
    const std::int32_t per_step = 1 << (kSumTileShift - tile_shift_);
    const std::int32_t all = (num_chunks_ + per_step - 1) / per_step;
    const std::int32_t tiles = (num_chunks_ + kSumTileChunks - 1) / kSumTileChunks;
    if (first >= tiles) return 0;
    const std::int32_t own = (tiles - first + stride - 1) / stride;
    const std::int32_t last = first + (own - 1) * stride;
    return ((own - 1) << tile_shift_) + min(1 << tile_shift_, all - (last << tile_shift_));
  }

  /// The row of a tile that this lane looks up, for one of two steps: one of the sixteen that its
  /// warp copies, four of every pass.
  __device__ int own_row() const {
    return lane() / 4 % kDensePasses * kDensePassRows + warp() * 4 + lane() % 4;
  }

  __device__ void look_up(std::int32_t step) { place_ = source_.look_up(step, own_row()); }

  /// Waits for the page that was looked up, and notes where its row lies.
  __device__ void find_row() {
    const Stored* const row = source_.row(place_, own_row());
    present_rows_ = __ballot_sync(kAll, row != nullptr);
    const int note = lane() / 16 * kDensePassRows + lane() % 4 * kDensePasses +
                     lane() / 4 % kDensePasses;  // the row's pass comes last
    __syncwarp();                                // the notes before have been read
    store_shared_8(shared_address(&notes_.addresses[warp()][note]), row ? row : fallback_row_);
    __syncwarp();
  }

  /// Starts to copy the rows that were found to a slot, those of the even step or of the odd one.
  __device__ void copy(int slot, int odd) {
    const int piece = lane() % 8;
    const std::uint32_t to =
        ring_ + slot * Tile::kBytes + Tile::offset(warp() * 4 + lane() / 8, piece);
    const Stored* rows[kDensePasses];
    static_assert(kDensePasses == 4);
    const std::uint32_t noted =
        shared_address(&notes_.addresses[warp()][odd * kDensePassRows + lane() / 8 * kDensePasses]);
    load_shared_addresses(noted, rows[0], rows[1]);
    load_shared_addresses(noted + 16, rows[2], rows[3]);
#pragma unroll
    for (int pass = 0; pass < kDensePasses; ++pass) {
      const Stored* const row = rows[pass] + piece * 8;
#pragma unroll
      for (int p = 0; p < kHeadDim / 8; p += 8) {
        if (kHeadDim % 64 != 0 && p + piece >= kHeadDim / 8) continue;
        Loader::copy(to + pass * kDensePassRows * 128 + p / 8 * Tile::kBlockBytes, row + p * 8);
      }
    }
    if (lane() == 0) {
      notes_.present[slot][warp()] = static_cast<std::uint16_t>(present_rows_ >> (odd * 16));
    }
  }

  /// Of the rows of a tile: word w / 2 has those of warps w and w + 1, 16 bits each, four of every
  /// pass.
  __device__ uint2 present_of(int slot) const {
    return *reinterpret_cast<const uint2*>(notes_.present[slot]);
  }
  /// Whether column n of this lane's products, 8 j + 2 t + b, is there.
  __device__ bool is_present(uint2 present, int j, int b) const {
    const int t = lane() % 4;
    const int of_warp = j % 2 * 2 + t / 2;
    const std::uint32_t word = of_warp / 2 == 0 ? present.x : present.y;
    return word >> (of_warp % 2 * 16 + j / 2 * 4 + t % 2 * 2 + b) & 1u;
  }

  // ---- Products ---------------------------------------------------------------------------------

  template <typename Meanwhile>
  __device__ void multiply(const DenseQueries<kHeadDim>& queries, int slot,
                           float (&c)[kColumns / 2], Meanwhile&& meanwhile) const {
    const std::uint32_t columns = Tile::columns_of(ring_ + slot * Tile::kBytes);
    if constexpr (kIsLandmarks) {
      multiply_half<true>(queries, columns, c);
      meanwhile();
      sm90::wgmma_wait<0>();
      multiply_half<false>(queries, columns + Tile::step(kLandmarksPerStep * 128), c);
    } else {
      sm90::wgmma_begin();
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        sm90::wgmma_64x64<Element>(c, queries.words[i], Tile::columns(columns, i), i > 0);
      }
      sm90::wgmma_commit();
      meanwhile();
    }
    sm90::wgmma_wait<0>();
#pragma unroll
    for (float& each : c) asm volatile("" : "+f"(each)::"memory");
  }

  /// c = max(q, 0) hi, or c += min(q, 0) lo.
  template <bool kPositive>
  __device__ static void multiply_half(const DenseQueries<kHeadDim>& queries, std::uint32_t columns,
                                       float (&c)[kLandmarksPerStep / 2]) {
    std::uint32_t part[kSteps][4];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const std::uint32_t pair = queries.words[i][w];
        part[i][w] = kPositive ? positive_pair<Element>(pair) : negative_pair<Element>(pair);
      }
    }
    sm90::wgmma_begin();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      sm90::wgmma_64x32<Element>(c, part[i], Tile::columns(columns, i), !kPositive || i > 0);
    }
    sm90::wgmma_commit();
  }

  // ---- Masses -----------------------------------------------------------------------------------

  /// Turns products into logits where multiplying by the scale alone does not: some rows of the
  /// tile are missing, logits are capped, or the scale is not positive. kBounded: a NaN becomes
  /// -inf, as it counts, and +inf a finite number.
  template <bool kBounded>
  __device__ void prepare(float (&c)[kColumns / 2], uint2 present, float scale,
                          bool is_capped) const {
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float logit = c[4 * j + i] * scale;
        if (is_capped) {
          logit =
              logits_.softcap_log2 * (1.f - __fdividef(2.f, exp2_fast(logit * kTwoLog2e) + 1.f));
        }
        if (kBounded) logit = fminf(fmaxf(logit, -INFINITY), kMostLogit);
        c[4 * j + i] = is_present(present, j, i % 2) ? logit : -INFINITY;
      }
    }
  }
  static constexpr float kTwoLog2e = 2.88539008f;
  static constexpr float kMostLogit = 3.4e38f;

  /// Takes in a step's products. begins: it is the first of a sum tile.
  __device__ void take(float (&c)[kColumns / 2], std::int32_t step, uint2 present, bool begins) {
    float scale = logits_.scale_log2;
    const bool is_capped = logits_.softcap_log2 > 0.f;
    const std::uint32_t wanted = kIsLandmarks ? 0x00ff00ffu : kAll;  // rows of hi
    if ((present.x & present.y & wanted) != wanted || is_capped || !(scale > 0.f)) [[unlikely]] {
      prepare<false>(c, present, scale, is_capped);
      scale = 1.f;
    }
    if (begins) {
      references_[0] = references_[1] = -INFINITY;
      sums_[0] = sums_[1] = 0.f;
    }
    // Rows have no reference in a tile's first step, and later only while they have no logit.
    if (__any_sync(kAll, fminf(references_[0], references_[1]) == -INFINITY)) {
      float max[2];
      largest(c, scale, max);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        if (references_[row] == -INFINITY && max[row] < INFINITY) references_[row] = max[row];
      }
    }
    if (!add_masses(c, step, scale)) [[unlikely]] {
      prepare<true>(c, present, scale, false);
      float max[2];
      largest(c, 1.f, max);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float larger = fmaxf(references_[row], max[row]);
        if (sums_[row] > 0.f) sums_[row] *= exp2_fast(references_[row] - larger);
        references_[row] = larger;
      }
      add_masses(c, step, 1.f);
    }
  }

  /// The largest logit of each row of the lane in a step.
  __device__ static void largest(const float (&c)[kColumns / 2], float scale, float (&max)[2]) {
    max[0] = max[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) max[i / 2 % 2] = fmaxf(max[i / 2 % 2], c[i]);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
#pragma unroll
      for (int lanes = 1; lanes <= 2; lanes *= 2) {
        max[row] = fmaxf(max[row], __shfl_xor_sync(kAll, max[row], lanes));
      }
      max[row] *= scale;
    }
  }

  /// False where a logit of the warp's rows is NaN, or too large for its row's reference; then
  /// nothing is kept.
  __device__ bool add_masses(const float (&c)[kColumns / 2], std::int32_t step, float scale) {
    // Masses of this lane: of its eight chunks, or of its eight keys in each half of a step.
    constexpr int kParts = kIsLandmarks ? 8 : 2;
    float masses[2][kParts];
    float sums[2];
    float from[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      from[row] = references_[row] == -INFINITY ? 0.f : references_[row];
    }
    if constexpr (kIsLandmarks) {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) {
        const int row = i / 2 % 2;
        masses[row][i / 4 * 2 + i % 2] = exp2_fast(fmaf(c[i], scale, -from[row]));
      }
    } else {
      // A lane's eight keys of a half: pairs, which are neighbours in c, then pairs of pairs.
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          float pairs[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int at = (half * 4 + j) * 4 + row * 2;
            pairs[j] = exp2_fast(fmaf(c[at], scale, -from[row])) +
                       exp2_fast(fmaf(c[at + 1], scale, -from[row]));
          }
          masses[row][half] = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3]);
        }
      }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      if constexpr (kIsLandmarks) {
        sums[row] = ((masses[row][0] + masses[row][1]) + (masses[row][2] + masses[row][3])) +
                    ((masses[row][4] + masses[row][5]) + (masses[row][6] + masses[row][7]));
      } else {
        sums[row] = masses[row][0] + masses[row][1];
      }
    }
    if (__any_sync(kAll, !(sums[0] + sums[1] < kMostMass))) [[unlikely]]
      return false;
    sums_[0] += sums[0];
    sums_[1] += sums[1];
    if (lane() % 4 == 0) {
      *reinterpret_cast<float2*>(masses_.references() + row_of(step)) =
          make_float2(from[0], from[1]);
    }
    store(masses, step);
    return true;
  }
  /// About 2^40. Masses and sums of a tile stay finite, and a chunk whose factor is lost to
  /// underflow (score_dense_steps) has less than 2^-86 of its row.
  static constexpr float kMostMass = 1e12f;

  __device__ void store(const float (&masses)[2][8], std::int32_t step) const {
#pragma unroll
    for (int part = 0; part < 8; ++part) {
      put(step * kLandmarksPerStep + part / 2 * 8 + lane() % 4 * 2 + part % 2, masses[0][part],
          masses[1][part]);
    }
  }

  /// The keys of a lane in a half of the step are one chunk of 8, or a part of one.
  __device__ void store(const float (&halves)[2][2], std::int32_t step) const {
    const int t = lane() % 4;
    float masses[2][2] = {{halves[0][0], halves[0][1]}, {halves[1][0], halves[1][1]}};
    const int per_step = 1 << source_.step_shift();
    const std::int32_t first = step * per_step;
    if (per_step == 8) [[likely]] {
      put(first + t, masses[0][0], masses[1][0]);
      put(first + 4 + t, masses[0][1], masses[1][1]);
      return;
    }
    const int lanes = min(4, 8 / per_step);  // that share a half's chunk
    for (int distance = 1; distance < lanes; distance *= 2) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        masses[i / 2][i % 2] += __shfl_xor_sync(kAll, masses[i / 2][i % 2], distance);
      }
    }
    if (t % lanes != 0) return;
    if (per_step == 1) return put(first, masses[0][0] + masses[0][1], masses[1][0] + masses[1][1]);
    const int per_half = per_step / 2;
    put(first + t / lanes, masses[0][0], masses[1][0]);
    put(first + per_half + t / lanes, masses[0][1], masses[1][1]);
  }

  /// Past the last chunk a step has room for some, whose rows are missing.
  __device__ void put(std::int32_t chunk, float upper, float lower) const {
    *reinterpret_cast<std::uint32_t*>(masses_.masses() + row_of(chunk)) =
        narrow_pair<bfloat16>(upper, lower);
  }

  /// Where this lane's two rows of a chunk or step are (32 bits: DenseMassLayout).
  __device__ std::uint32_t row_of(std::int32_t number) const {
    return static_cast<std::uint32_t>(number * masses_.rows() + row_);
  }

  /// Leaves the rows' states of a sum tile.
  __device__ void end_tile(std::int32_t tile) const {
    float sums[2] = {sums_[0], sums_[1]};
#pragma unroll
    for (int row = 0; row < 2; ++row) {
#pragma unroll
      for (int lanes = 1; lanes <= 2; lanes *= 2) {
        sums[row] += __shfl_xor_sync(kAll, sums[row], lanes);
      }
    }
    if (lane() % 4 != 0) return;
    *reinterpret_cast<float4*>(masses_.states() + (std::int64_t{tile} * masses_.rows() + row_)) =
        make_float4(references_[0], sums[0], references_[1], sums[1]);
  }

  const Source& source_;
  const DenseMasses masses_;
  LogitScale logits_;
  std::int32_t num_chunks_;
  std::uint32_t lane_;  ///< from a shuffle, or it would be asked for again wherever it is used
  int warp_;            ///< of the warpgroup
  int row_;             ///< place (dense_row) of the first of this lane's two rows
  const Stored* fallback_row_;
  int warpgroup_;
  std::uint32_t ring_;
  DenseNotes& notes_;
  int tile_shift_;              ///< log2 of the steps of a sum tile
  DensePlace place_;            ///< of own_row(), two steps behind the notes
  std::uint32_t present_rows_;  ///< bits of lanes whose row, of those noted, exists
  float references_[2];  ///< of this lane's two rows, in the sum tile at work; -inf: no logit yet
  float sums_[2];        ///< of masses, over this lane's columns
};

}  // namespace hip_attn::cuda
