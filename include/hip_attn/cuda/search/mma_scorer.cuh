/// Scores of keys for the search by mma.sync (compute capability 8.0 and newer).
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"
#include "hip_attn/cuda/search/rows.cuh"

namespace hip_attn::cuda {

/// Sixteen pooled rows of queries as the tensor cores take them: lane (g, t) = (lane / 4, lane % 4)
/// of step 2 i + s reads 16 bytes, which are words 2 s and 2 s + 1 of piece 4 i + t of rows g and g
/// + 8, alternating. Keys that lie in registers as they lie in memory meet the same columns, and no
/// lane shares a bank with another.
template <int kHeadDim>
struct MmaQueries {
  static constexpr int kRowTile = 16;
  static constexpr std::size_t kAlignment = 16;
  static constexpr std::size_t kRowBytes = kHeadDim * 2;
  static constexpr int kWordsPerTile = kRowTile * kHeadDim / 2;

  __host__ __device__ static constexpr int padded(int rows) {
    return (rows + kRowTile - 1) / kRowTile * kRowTile;
  }

  /// Where word w of piece p of a row lies, in words.
  __device__ static constexpr int word(int row, int piece, int w) {
    const int step = piece / 4 * 2 + w / 2;
    const int lane = row % 8 * 4 + piece % 4;
    return row / kRowTile * kWordsPerTile + (step * 32 + lane) * 4 + w % 2 * 2 + row / 8 % 2;
  }
};

/// Scores of 32 keys per warp, the columns of the product: its key n * 8 + g is that of quad g. The
/// keys go straight from global memory to registers: lane (g, t) = (lane / 4, lane % 4) holds 16
/// bytes in every 64 of its quad's four keys. Sixteen query rows read from shared memory feed four
/// products; with fewer keys to a warp, shared memory would be the limit.
template <typename Traits>
class MmaScorer {
 public:
  using Element = typename Traits::Element;
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Layout = MmaQueries<kHeadDim>;
  static constexpr int kKeysPerQuad = 4;
  static constexpr int kWarpsTogether = 1;

  static constexpr std::size_t kStagingBytes = 0;

  /// The rows' queries are in the order of MmaQueries.
  __device__ MmaScorer(const SearchRows& rows, std::byte* /*staging*/) : rows_(rows) {}

  /// Every lane brings the row of key lane % 4 of its quad's, and gets the scores of all: the
  /// largest product with any query row, -inf of NaN alone. `meanwhile` is called when the keys
  /// have been asked for, see(c, row) as visit in products().
  template <typename Meanwhile, typename See>
  __device__ void score(const Stored* key, float (&scores)[4], Meanwhile&& meanwhile,
                        See&& see) const {
    float best[8];  // of keys 2 t and 2 t + 1 of each eight, for this lane's query rows
#pragma unroll
    for (float& each : best) each = kNoLogit;
    products(key, meanwhile, [&](const float(&c)[4][4], int row) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          best[2 * n + j] = fmaxf(best[2 * n + j], fmaxf(c[n][j], c[n][2 + j]));
        }
      }
      see(c, row);
    });
    hand_out(best, scores);
  }
  template <typename Meanwhile>
  __device__ void score(const Stored* key, float (&scores)[4], Meanwhile&& meanwhile) const {
    score(key, scores, meanwhile, [](const float(&)[4][4], int) {});
  }

  /// visit(c, row) with the products of sixteen query rows: c[n][0], c[n][1] are query row `row`
  /// with keys n of quads 2 t and 2 t + 1, c[n][2], c[n][3] row + 8 with the same. Lanes bring keys
  /// and `meanwhile` is called as in score().
  template <typename Meanwhile, typename Visit>
  __device__ void products(const Stored* key, Meanwhile&& meanwhile, Visit&& visit) const {
    uint4 keys[4][kSegments];
    read(key, keys);
    meanwhile();
    for_each_tile([&](const uint4* fragment, int row) {
      float c[4][4] = {};
#pragma unroll
      for (int i = 0; i < kSegments; ++i) {
        const uint4 a = fragment[i * 64];
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          mma_16x8x16<Element>(c[n], a.x, a.y, a.z, a.w, keys[n][i].x, keys[n][i].y);
        }
        const uint4 b = fragment[i * 64 + 32];
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          mma_16x8x16<Element>(c[n], b.x, b.y, b.z, b.w, keys[n][i].z, keys[n][i].w);
        }
      }
      visit(c, row);
    });
  }

  /// The same of two landmarks to a quad: lanes bring the rows hi and lo of its first, hi and lo of
  /// its second, and c[n] are the products with landmark n: what is positive of a query row with hi
  /// and what is negative of it with lo.
  template <typename Visit>
  __device__ void landmark_products(const Stored* own_row, Visit&& visit) const {
    uint4 rows[4][kSegments];
    read(own_row, rows);
    for_each_tile([&](const uint4* fragment, int row) {
      float c[2][4] = {};
#pragma unroll
      for (int i = 0; i < kSegments; ++i) {
        const uint4 a = fragment[i * 64];
        const uint4 b = fragment[i * 64 + 32];
        const uint4 a_hi = with_hi(a);
        const uint4 b_hi = with_hi(b);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const uint4& hi = rows[2 * n][i];
          mma_16x8x16<Element>(c[n], a_hi.x, a_hi.y, a_hi.z, a_hi.w, hi.x, hi.y);
          mma_16x8x16<Element>(c[n], b_hi.x, b_hi.y, b_hi.z, b_hi.w, hi.z, hi.w);
        }
        const uint4 a_lo = with_lo(a);
        const uint4 b_lo = with_lo(b);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const uint4& lo = rows[2 * n + 1][i];
          mma_16x8x16<Element>(c[n], a_lo.x, a_lo.y, a_lo.z, a_lo.w, lo.x, lo.y);
          mma_16x8x16<Element>(c[n], b_lo.x, b_lo.y, b_lo.z, b_lo.w, lo.z, lo.w);
        }
      }
      visit(c, row);
    });
  }

 private:
  static constexpr int kSegments = kHeadDim / 32;
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  /// What this lane holds of the rows that the lanes of its quad bring.
  __device__ static void read(const Stored* own_row, uint4 (&rows)[4][kSegments]) {
    const Stored* from[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      from[n] = reinterpret_cast<const Stored*>(
          __shfl_sync(kAll, reinterpret_cast<unsigned long long>(own_row), n, 4));
    }
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        rows[n][i] = Loader::read(from[n] + i * 32 + lane() % 4 * 8);
      }
    }
  }

  /// multiply(fragment, row) for each sixteen query rows: this lane's part of them, and its first
  /// row.
  template <typename Multiply>
  __device__ void for_each_tile(Multiply&& multiply) const {
    const auto* fragment = reinterpret_cast<const uint4*>(rows_.queries) + lane();
#pragma unroll 1
    for (int row = 0; row < rows_.padded; row += Layout::kRowTile) {
      multiply(fragment, row + lane() / 4);
      fragment += Layout::kWordsPerTile / 4;
    }
  }

  /// What of a query row meets hi, and lo, of a landmark.
  __device__ static uint4 with_hi(const uint4& a) {
    return {positive_pair<Element>(a.x), positive_pair<Element>(a.y), positive_pair<Element>(a.z),
            positive_pair<Element>(a.w)};
  }
  __device__ static uint4 with_lo(const uint4& a) {
    return {negative_pair<Element>(a.x), negative_pair<Element>(a.y), negative_pair<Element>(a.z),
            negative_pair<Element>(a.w)};
  }

  /// The largest that the eight lanes with a key's products have, to the quad that brought
  /// the key.
  __device__ static void hand_out(const float (&best)[8], float (&scores)[4]) {
    const int g = lane() / 4;
    // Halves are exchanged: lane (g, t) ends with key (n, 2 t + g % 2) where n = g / 2.
    float four[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) four[i] = exchange(g & 4, 16, best[i], best[4 + i]);
    float two[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) two[i] = exchange(g & 2, 8, four[i], four[2 + i]);
    const float one = exchange(g & 1, 4, two[0], two[1]);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      scores[n] = __shfl_sync(kAll, one, (2 * n + g % 2) * 4 + g / 2);
    }
  }

  /// The larger of this lane's and its partner's `upper`, or `lower` where `upper_lane` is not set.
  __device__ static float exchange(bool upper_lane, int distance, float lower, float upper) {
    const float other = __shfl_xor_sync(kAll, upper_lane ? lower : upper, distance);
    return fmaxf(upper_lane ? upper : lower, other);
  }

  const SearchRows& rows_;
};

}  // namespace hip_attn::cuda
