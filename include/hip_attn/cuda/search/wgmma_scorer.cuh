/// Scores of keys for the search by wgmma (compute capability 9.0 alone).
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/ptx/wgmma.cuh"
#include "hip_attn/cuda/rows/swizzled_tile.cuh"
#include "hip_attn/cuda/rows/tile_loader.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"
#include "hip_attn/cuda/search/rows.cuh"

namespace hip_attn::cuda {

/// Pooled rows of queries in shared memory, one SwizzledTile of 64 rows after another.
template <int kHeadDim>
struct WgmmaQueries {
  static constexpr int kRowTile = 64;
  static constexpr std::size_t kAlignment = 1024;  ///< of swizzled tiles
  using Tile = sm90::SwizzledTile<kRowTile, kHeadDim>;
  static constexpr std::size_t kRowBytes = Tile::kBytes / kRowTile;

  __host__ __device__ static constexpr int padded(int rows) {
    return (rows + kRowTile - 1) / kRowTile * kRowTile;
  }

  /// Where word w of piece p of a row lies, in words.
  __device__ static std::uint32_t word(int row, int piece, int w) {
    return (row / kRowTile * Tile::kBytes + Tile::offset(row % kRowTile, piece)) / 4 + w;
  }
};

/// Scores of 64 keys per four warps, the rows of the product: keys g and g + 8 of a warp are those
/// of quad g. Keys go through shared memory, where lanes may copy for each other: eight of them ask
/// for 128 bytes of a key together, as much as one request to L2 brings. (Straight to registers, as
/// in mma_scorer.cuh, a quad can ask for 64.) A warp copies and reads its own keys, so nothing but
/// the product itself waits for other warps.
template <typename Traits>
class WgmmaScorer {
 public:
  using Element = typename Traits::Element;
  using Loader = typename Traits::Loader;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Layout = WgmmaQueries<kHeadDim>;
  static constexpr int kKeysPerQuad = 2;
  static constexpr int kWarpsTogether = 4;
  static constexpr std::size_t kStagingBytes =
      sm90::SwizzledTile<16, kHeadDim>::kBytes;  ///< of a warp

  /// The rows' queries are in the order of WgmmaQueries; `staging` is that of all warps.
  __device__ WgmmaScorer(const SearchRows& rows, std::byte* staging)
      : rows_(rows),
        queries_(shared_address(rows.queries)),
        staging_(shared_address(staging) + threadIdx.x / 32 * Keys::kBytes) {}

  /// Every lane brings the row of key lane % 2 of its quad's, and gets the scores of both.
  /// `meanwhile` is called when the keys have been asked for.
  template <typename Meanwhile>
  __device__ void score(const Stored* key, float (&scores)[2], Meanwhile&& meanwhile) const {
    float best[2] = {kNoLogit, kNoLogit};
    multiply(key, meanwhile, [&](const float(&c)[Layout::kRowTile / 2]) {
#pragma unroll
      for (int n = 0; n < Layout::kRowTile / 2; n += 4) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          best[j] = fmaxf(best[j], fmaxf(c[n + 2 * j], c[n + 2 * j + 1]));
        }
      }
    });
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int lanes = 1; lanes <= 2; lanes *= 2) {
        best[n] = fmaxf(best[n], __shfl_xor_sync(kAll, best[n], lanes));
      }
      scores[n] = best[n];
    }
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;
  static constexpr int kKeys = 16;  ///< of a warp
  using Keys = sm90::SwizzledTile<kKeys, kHeadDim>;
  static_assert(kStagingBytes == Keys::kBytes);
  static constexpr int kSteps = kHeadDim / 16;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  /// visit(c) with the products of 64 query rows: c[4 n], c[4 n + 1] are key g with query rows
  /// 8 n + 2 t and the next; c[4 n + 2], c[4 n + 3] the same of key g + 8.
  template <typename Meanwhile, typename Visit>
  __device__ void multiply(const Stored* key, Meanwhile&& meanwhile, Visit&& visit) const {
    ask(key);
    meanwhile();
    std::uint32_t keys[kSteps][4];
    wait_for_copies();
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      load_matrices(keys[i], staging_ + Keys::offset(lane() % 16, 2 * i + lane() / 16));
    }
    std::uint32_t columns = Layout::Tile::columns_of(queries_);
#pragma unroll 1
    for (int first = 0; first < rows_.padded; first += Layout::kRowTile) {
      float c[Layout::kRowTile / 2];
      multiply_tile(keys, columns, c);
      columns += Layout::Tile::step(Layout::Tile::kBytes);
      visit(c);
    }
  }

  __device__ void ask(const Stored* row) const {
    const int piece = lane() % 8;
    __syncwarp();  // all have read the keys before
#pragma unroll
    for (int i = 0; i < kKeys; i += 4) {
      const int key = i + lane() / 8;
      const auto from = reinterpret_cast<const Stored*>(
          __shfl_sync(kAll, reinterpret_cast<unsigned long long>(row), key % 8 * 4 + key / 8));
#pragma unroll
      for (int p = 0; p < kHeadDim / 8; p += 8) {
        if (kHeadDim % 64 != 0 && p + piece >= kHeadDim / 8) continue;
        Loader::copy(staging_ + Keys::offset(key, p + piece), from + (p + piece) * 8);
      }
    }
  }

  /// `columns` is Tile::columns_of.
  __device__ static void multiply_tile(const std::uint32_t (&keys)[kSteps][4],
                                       std::uint32_t columns, float (&c)[Layout::kRowTile / 2]) {
    sm90::wgmma_begin();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      sm90::wgmma_64x64<Element>(c, keys[i], Layout::Tile::columns(columns, i), i > 0);
    }
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
#pragma unroll
    for (float& each : c) asm volatile("" : "+f"(each)::"memory");
  }

  const SearchRows& rows_;
  std::uint32_t queries_;  ///< addresses in shared memory
  std::uint32_t staging_;  ///< of this warp
};

}  // namespace hip_attn::cuda
