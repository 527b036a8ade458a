/// A stage of the search as a dense product (compute capability 9.0 alone): pooled query rows
/// against a stream of landmarks, or of all keys of the stage's chunks, by wgmma. Each warpgroup
/// has a ring of tiles of its own, which it fills by asynchronous copies ahead of its products;
/// what hides latency besides is that several warpgroups share a multiprocessor.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/register.cuh"
#include "hip_attn/cuda/ptx/wgmma.cuh"
#include "hip_attn/cuda/rows/swizzled_tile.cuh"
#include "hip_attn/cuda/search/dense_copies.cuh"
#include "hip_attn/cuda/search/dense_masses.cuh"

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

/// Scans the sum tiles `first`, `first` + `stride`, ... of a stage for one tile of query rows with
/// one warpgroup, and leaves their masses.
template <typename Traits, typename Source>
class DenseScan {
 public:
  using Element = typename Traits::Element;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Tile = sm90::SwizzledTile<kDenseRows, kHeadDim>;
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr bool kIsLandmarks = Source::kIsLandmarks;
  /// Columns of a product.
  static constexpr int kColumns = kIsLandmarks ? kLandmarksPerStep : kDenseRows;

  /// warpgroup: this one, the same value in a register of all lanes. ring: kDenseSlots tiles of it.
  __device__ DenseScan(const Source& source, const DenseMasses& masses, LogitScale logits,
                       std::int32_t num_chunks, int row_tile, int warpgroup, std::uint32_t ring,
                       DenseNotes& notes)
      : masses_(masses),
        logits_(logits),
        num_chunks_(uniform(num_chunks)),
        lane_(__shfl_sync(kAll, threadIdx.x, threadIdx.x) % 32u),
        warp_(uniform(static_cast<int>(threadIdx.x / 32u % 4u))),
        row_(row_tile * kDenseRows + warp_ * 16 + lane() / 4 * 2),
        warpgroup_(warpgroup),
        ring_(ring),
        copies_(source, lane_, warp_, ring, notes),
        tile_shift_(uniform(kSumTileShift - source.step_shift())) {}

  __device__ void run(const DenseQueries<kHeadDim>& queries, int first, int stride) {
    const int in_tile = (1 << tile_shift_) - 1;
    // Step i of this warpgroup.
    const auto step_of = [&](std::int32_t i) {
      return ((first + (i >> tile_shift_) * stride) << tile_shift_) + (i & in_tile);
    };
    const std::int32_t steps = count_steps(first, stride);
    // A warp looks up the rows of a round of steps at once, before the copies of the first start.
    const auto own_step = [&](std::int32_t first_of_round) {
      const std::int32_t step = first_of_round + lane() / Source::kItems;
      return step < steps ? step_of(step) : num_chunks_;
    };
    copies_.look_up(own_step(0));
    copies_.note_addresses(0);
    copies_.look_up(own_step(kRound));
#pragma unroll 1
    for (int i = 0; i < kDenseStepsAhead; ++i) {
      if (i < steps) copies_.start(i, i);
      commit_copies();
    }
    int slot = 0;
#pragma unroll 1
    for (std::int32_t i = 0; i < steps; ++i) {
      wait_for_groups<kDenseStepsAhead - 1>();
      sm90::fence_for_tensor_cores();
      // The warpgroup has copied the rows of this step and is done with the slot of the step
      // before, which the copies below fill.
      sm90::sync_warpgroup(warpgroup_);
      float c[kColumns / 2];
      bool is_whole;
      multiply(queries, slot, c, [&] {
        const std::int32_t next = i + kDenseStepsAhead;
        if (next % kRound == 0) {
          copies_.note_addresses(next);
          copies_.look_up(own_step(next + kRound));
        }
        if (next < steps) copies_.start(slot == 0 ? kDenseSlots - 1 : slot - 1, next);
        commit_copies();
        is_whole = copies_.all_present(i);
      });
      const std::int32_t step = step_of(i);
      if ((i & in_tile) == 0) begin_tile();
      if (!take(c, i, step, is_whole)) [[unlikely]]
        take_large(queries, slot, i, step);
      if ((i & in_tile) == in_tile || i + 1 == steps) end_tile(step >> tile_shift_);
      slot = slot + 1 == kDenseSlots ? 0 : slot + 1;
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kRound = DenseCopies<Traits, Source>::kRound;

  /// What follows from it is found anew where it is needed: kept in registers, it would spill.
  __device__ int lane() const { return static_cast<int>(in_register(lane_) % 32u); }

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

  // ---- Products ---------------------------------------------------------------------------------

  /// What is positive of a query row meets hi of a landmark, what is negative lo.
  enum class Part { kAll, kPositive, kNegative };
  template <Part kPart>
  __device__ static std::uint32_t part_of(std::uint32_t pair) {
    if constexpr (kPart == Part::kPositive) return positive_pair<Element>(pair);
    if constexpr (kPart == Part::kNegative) return negative_pair<Element>(pair);
    return pair;
  }

  template <typename Meanwhile>
  __device__ void multiply(const DenseQueries<kHeadDim>& queries, int slot,
                           float (&c)[kColumns / 2], Meanwhile&& meanwhile) const {
    const std::uint32_t columns = Tile::columns_of(ring_ + slot * Tile::kBytes);
    if constexpr (kIsLandmarks) {
      multiply_part<Part::kPositive>(queries, columns, c);
      meanwhile();
      sm90::wgmma_wait<0>();
      multiply_part<Part::kNegative>(queries, columns + Tile::step(kLandmarksPerStep * 128), c);
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
  template <Part kPart>
  __device__ static void multiply_part(const DenseQueries<kHeadDim>& queries, std::uint32_t columns,
                                       float (&c)[kLandmarksPerStep / 2]) {
    std::uint32_t part[kSteps][4];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        part[i][w] = part_of<kPart>(queries.words[i][w]);
      }
    }
    sm90::wgmma_begin();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      sm90::wgmma_64x32<Element>(c, part[i], Tile::columns(columns, i),
                                 kPart == Part::kNegative || i > 0);
    }
    sm90::wgmma_commit();
  }

  /// The products of this warp's rows with columns 8 j to 8 j + 7 once more, by itself.
  __device__ void multiply_again(const DenseQueries<kHeadDim>& queries, int slot, int j,
                                 float (&c)[4]) const {
    const std::uint32_t tile = ring_ + slot * Tile::kBytes;
#pragma unroll
    for (float& each : c) each = 0.f;
#pragma unroll
    for (int i = 0; i < kSteps; i += 2) {
      const std::uint32_t from = tile + Tile::offset(8 * j + lane() % 8, 2 * i + lane() / 8);
      std::uint32_t b[4];
      load_matrices(b, from);
      constexpr Part kPart = kIsLandmarks ? Part::kPositive : Part::kAll;
      add_product<kPart>(queries.words[i], b[0], b[1], c);
      add_product<kPart>(queries.words[i + 1], b[2], b[3], c);
      if constexpr (kIsLandmarks) {
        load_matrices(b, from + kLandmarksPerStep * 128);
        add_product<Part::kNegative>(queries.words[i], b[0], b[1], c);
        add_product<Part::kNegative>(queries.words[i + 1], b[2], b[3], c);
      }
    }
  }
  template <Part kPart>
  __device__ static void add_product(const std::uint32_t (&words)[4], std::uint32_t b0,
                                     std::uint32_t b1, float (&c)[4]) {
    std::uint32_t a[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) a[w] = part_of<kPart>(words[w]);
    mma_16x8x16<Element>(c, a[0], a[1], a[2], a[3], b0, b1);
  }

  // ---- Masses -----------------------------------------------------------------------------------

  /// Turns products into logits where multiplying by the scale alone does not: some rows of the
  /// tile are missing, logits are capped, or the scale is not positive.
  __device__ void prepare(float (&c)[kColumns / 2], std::int32_t i) const {
    const std::uint32_t present = copies_.present_columns(i);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
      for (int k = 0; k < 4; ++k) c[4 * j + k] = logit<false>(c[4 * j + k], present, j, k);
    }
  }

  /// The logit of product k of column group j. kBounded: a NaN becomes -inf, as it counts, and +inf
  /// a finite number.
  template <bool kBounded>
  __device__ float logit(float product, std::uint32_t present, int j, int k) const {
    float x = product * logits_.scale_log2;
    if (is_capped()) {
      x = logits_.softcap_log2 * (1.f - __fdividef(2.f, exp2_fast(x * kTwoLog2e) + 1.f));
    }
    if (kBounded) x = fminf(fmaxf(x, -INFINITY), kMostLogit);
    return present >> Source::item_of(j / 4 * 2 + k % 2, j % 4) & 1u ? x : -INFINITY;
  }
  static constexpr float kTwoLog2e = 2.88539008f;
  static constexpr float kMostLogit = 3.4e38f;

  /// Of a sum tile.
  __device__ void begin_tile() {
    references_[0] = references_[1] = -INFINITY;
    sums_[0] = sums_[1] = 0.f;
    lacking_ = kAll;
  }

  __device__ bool is_capped() const { return logits_.softcap_log2 > 0.f; }

  /// Takes in the products of step i of this warpgroup, `step` of the stage. is_whole: all rows are
  /// there. False as add_masses().
  __device__ bool take(float (&c)[kColumns / 2], std::int32_t i, std::int32_t step, bool is_whole) {
    float scale = logits_.scale_log2;
    if (!is_whole || is_capped() || !(scale > 0.f)) [[unlikely]] {
      prepare(c, i);
      scale = 1.f;
    }
    // Rows have no reference in a tile's first step, and later only while they have no logit.
    if (lacking_ != 0) {
      float max[2];
      largest(c, scale, max);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        if (references_[row] == -INFINITY && max[row] < INFINITY) references_[row] = max[row];
      }
      lacking_ = __ballot_sync(kAll, fminf(references_[0], references_[1]) == -INFINITY);
    }
    return add_masses(c, step, scale);
  }

  /// The same of a step that it has refused: raises the references. What the products were is found
  /// again, a few at a time: keeping them until their masses are known would cost the registers in
  /// which exponentials overlap.
  __device__ void take_large(const DenseQueries<kHeadDim>& queries, int slot, std::int32_t i,
                             std::int32_t step) {
    const std::uint32_t present = copies_.present_columns(i);
    const auto find_logits = [&](int j, float(&logits)[4]) {
      multiply_again(queries, slot, j, logits);
#pragma unroll
      for (int k = 0; k < 4; ++k) logits[k] = logit<true>(logits[k], present, j, k);
    };
    float max[2] = {-INFINITY, -INFINITY};
    float of_columns[4];
#pragma unroll 1
    for (int j = 0; j < kColumns / 8; ++j) {
      find_logits(j, of_columns);
#pragma unroll
      for (int k = 0; k < 4; ++k) max[k / 2] = fmaxf(max[k / 2], of_columns[k]);
    }
    float from[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float larger = fmaxf(references_[row], quad_max(max[row]));
      if (sums_[row] > 0.f) sums_[row] *= exp2_fast(references_[row] - larger);
      references_[row] = larger;
      from[row] = larger == -INFINITY ? 0.f : larger;
    }
    float halves[2][2];  // of keys: what is added up of each half of a step
    float sums[2] = {};
#pragma unroll 1
    for (int j = 0; j < kColumns / 8; ++j) {
      find_logits(j, of_columns);
#pragma unroll
      for (int k = 0; k < 4; ++k) of_columns[k] = exp2_fast(of_columns[k] - from[k / 2]);
      if (j == 4) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
          halves[row][0] = sums[row];
          sums_[row] += sums[row];
          sums[row] = 0.f;
        }
      }
#pragma unroll
      for (int row = 0; row < 2; ++row) sums[row] += of_columns[2 * row] + of_columns[2 * row + 1];
      if constexpr (kIsLandmarks) put_landmarks(step, j, of_columns);
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      halves[row][1] = sums[row];
      sums_[row] += sums[row];
    }
    put_references(step);
    if constexpr (!kIsLandmarks) store(halves, step);
  }

  /// The largest logit of each row of the lane in a step.
  __device__ static void largest(const float (&c)[kColumns / 2], float scale, float (&max)[2]) {
    max[0] = max[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) max[i / 2 % 2] = fmaxf(max[i / 2 % 2], c[i]);
#pragma unroll
    for (float& each : max) each = quad_max(each) * scale;
  }
  __device__ static float quad_max(float x) {
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) x = fmaxf(x, __shfl_xor_sync(kAll, x, lanes));
    return x;
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
    float of_columns[kColumns / 2];
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      of_columns[i] = exp2_fast(fmaf(c[i], scale, -from[i / 2 % 2]));
    }
    if constexpr (kIsLandmarks) {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) {
        masses[i / 2 % 2][i / 4 * 2 + i % 2] = of_columns[i];
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
            pairs[j] = of_columns[at] + of_columns[at + 1];
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
    put_references(step);
    store(masses, step);
    return true;
  }
  /// About 2^40. Masses and sums of a tile stay finite, and a chunk whose factor is lost to
  /// underflow (score_dense_chunks) has less than 2^-84 of its row.
  static constexpr float kMostMass = 1e12f;

  __device__ void put_references(std::int32_t step) const {
    if (lane() % 4 != 0) return;
    *reinterpret_cast<float2*>(masses_.references() + row_of(step)) =
        make_float2(references_[0], references_[1]);
  }

  __device__ void store(const float (&masses)[2][8], std::int32_t step) const {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      put_landmarks(
          step, j,
          {masses[0][2 * j], masses[0][2 * j + 1], masses[1][2 * j], masses[1][2 * j + 1]});
    }
  }
  /// The masses of column group j.
  __device__ void put_landmarks(std::int32_t step, int j, const float (&masses)[4]) const {
    const std::int32_t first = step * kLandmarksPerStep + j * 8 + lane() % 4 * 2;
    put(first, masses[0], masses[2]);
    put(first + 1, masses[1], masses[3]);
  }

  /// The keys of a lane in a half of the step are one chunk of 8, or a part of one.
  __device__ void store(const float (&halves)[2][2], std::int32_t step) const {
    const int t = lane() % 4;
    float masses[2][2] = {{halves[0][0], halves[0][1]}, {halves[1][0], halves[1][1]}};
    const int per_step = 1 << (kSumTileShift - tile_shift_);
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

  const DenseMasses masses_;
  LogitScale logits_;
  std::int32_t num_chunks_;
  std::uint32_t lane_;  ///< from a shuffle, or it would be asked for again wherever it is used
  int warp_;            ///< of the warpgroup
  int row_;             ///< place (dense_row) of the first of this lane's two rows
  int warpgroup_;
  std::uint32_t ring_;
  DenseCopies<Traits, Source> copies_;
  int tile_shift_;         ///< log2 of the steps of a sum tile
  std::uint32_t lacking_;  ///< bits of lanes of which a row has no reference
  float references_[2];    ///< of this lane's two rows, in the sum tile at work; -inf: no logit yet
  float sums_[2];          ///< of masses, over this lane's columns
};

}  // namespace hip_attn::cuda
