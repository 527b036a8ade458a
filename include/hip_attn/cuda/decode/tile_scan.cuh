/// Stage "scan" of decode by rules that need no answer before they know what to read next:
/// landmarks, every key, and keys at fixed places of a chunk. A warp asks for tiles of 16 rows, as
/// many as its part of shared memory holds, before it multiplies the first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/queries.cuh"
#include "hip_attn/cuda/decode/stage_logits.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"
#include "hip_attn/cuda/search/rules.cuh"

namespace hip_attn::cuda {

/// A rule's tiles come in groups, all of a group by one warp and in ascending order: tile `within`
/// of group `group`. The lists below say of them:
///
/// - num_groups, tiles_per_group, and kHalves: tiles of rows that stand for one of them, 2 with
///   landmarks, whose lower bounds lie behind the upper ones;
/// - position(group, within, i): where row i < 16 stands among the rows of `pages`, -1 if nowhere;
/// - row(slot): of a slot that has a page; with kHalves 2, lower(row);
/// - gather(values, sums): what 16 rows' logits come to for their chunks, values[half][i] this
///   lane's of row g + 8 half (g = lane / 4) and query row 2 t + i (t = lane % 4); called by the
///   whole warp;
/// - chunk(group, half): the chunk that this lane writes down of row g + 8 * half, -1: none;
/// - add(a, b, sums): from two tiles of a group.

namespace tile_scan {
__device__ inline int lane() { return static_cast<int>(threadIdx.x % 32); }
}  // namespace tile_scan

/// Sixteen chunks, a row of each.
struct RowsOfChunks {
  const ChunkList& chunks;

  __device__ std::int32_t num_groups() const { return (chunks.count + 15) / 16; }
  __device__ static void gather(float (&)[2][2], bool /*sums*/) {}
  __device__ std::int32_t chunk(std::int32_t group, int half) const {
    const std::int32_t i = group * 16 + half * 8 + tile_scan::lane() / 4;
    return i < chunks.count ? i : -1;
  }
  __device__ static float add(float a, float b, bool /*sums*/) { return fmaxf(a, b); }
};

/// Their landmarks.
template <typename Stored>
struct LandmarkTiles : RowsOfChunks {
  static constexpr int kHalves = 2;
  LandmarkRows<Stored> landmarks;
  std::int64_t capacity;  ///< landmarks that the pages of a request hold

  __device__ LandmarkTiles(const ChunkList& chunks_, const LandmarkTensor<Stored>& tensor,
                           int request, int kv_head)
      : RowsOfChunks{chunks_},
        landmarks(tensor, request, kv_head),
        capacity(tensor.map.capacity()) {}

  __device__ static std::int32_t tiles_per_group() { return 1; }
  __device__ std::int32_t position(std::int32_t group, std::int32_t /*within*/, int i) const {
    const std::int32_t chunk = group * 16 + i;
    if (chunk >= chunks.count) return -1;
    const std::int32_t number = chunks.start(chunk) >> chunks.chunk_shift;
    return number < capacity ? number : -1;
  }
  __device__ const RequestPages& pages() const { return landmarks.pages; }
  __device__ const Stored* row(RowSlot slot) const { return landmarks.hi.row(slot); }
  __device__ const Stored* lower(const Stored* row) const { return row + landmarks.lo_offset; }
};

/// Keys of a cache; the last chunk ends at `end`.
template <typename Stored>
struct KeysOfChunks {
  static constexpr int kHalves = 1;
  const KvRows<Stored>& kv;
  std::int32_t end;

  __device__ const RequestPages& pages() const { return kv.pages; }
  __device__ const Stored* row(RowSlot slot) const { return kv.keys.row(slot); }
};

/// The keys that a rule reads of sixteen chunks, one tile for each of its kKeys.
template <typename Stored, typename Rule>
struct FixedKeyTiles : RowsOfChunks, KeysOfChunks<Stored> {
  __device__ FixedKeyTiles(const ChunkList& chunks_, const KvRows<Stored>& kv_, std::int32_t end_)
      : RowsOfChunks{chunks_}, KeysOfChunks<Stored>{kv_, end_} {}

  __device__ static std::int32_t tiles_per_group() { return Rule::kKeys; }
  __device__ std::int32_t position(std::int32_t group, std::int32_t within, int i) const {
    const std::int32_t chunk = group * 16 + i;
    if (chunk >= chunks.count) return -1;
    const std::int32_t l = chunks.start(chunk);
    return Rule::position(ChunkRange{l, min(l + chunks.chunk_size(), this->end)}, within);
  }
};

/// All keys: tiles of up to 16 whole chunks, or one chunk in several tiles.
template <typename Stored>
struct EveryKeyTiles : KeysOfChunks<Stored> {
  const ChunkList& chunks;

  __device__ EveryKeyTiles(const ChunkList& chunks_, const KvRows<Stored>& kv_, std::int32_t end_)
      : KeysOfChunks<Stored>{kv_, end_}, chunks(chunks_) {}

  /// log2 of the chunks of a tile, negative: of the tiles of a chunk.
  __device__ int chunks_shift() const { return 4 - chunks.chunk_shift; }
  __device__ std::int32_t num_groups() const {
    const int shift = max(chunks_shift(), 0);
    return (chunks.count + (1 << shift) - 1) >> shift;
  }
  __device__ std::int32_t tiles_per_group() const { return 1 << max(-chunks_shift(), 0); }
  __device__ std::int32_t position(std::int32_t group, std::int32_t within, int i) const {
    const std::int32_t key = within * 16 + i;  // of the group
    const std::int32_t chunk =
        chunks_shift() > 0 ? (group << chunks_shift()) + (key >> chunks.chunk_shift) : group;
    if (chunk >= chunks.count) return -1;
    const std::int32_t position = chunks.start(chunk) + (key & (chunks.chunk_size() - 1));
    return position < this->end ? position : -1;
  }

  /// Every lane of a chunk gets the largest of its keys' logits, or the log of their sum.
  __device__ void gather(float (&values)[2][2], bool sums) const {
    constexpr std::uint32_t kAll = 0xffffffffu;
    const bool both = chunks.chunk_shift > 3;  // rows g and g + 8 are of one chunk
    const int end = 4 << min(chunks.chunk_shift, 3);
    float max[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float of_both = fmaxf(values[0][i], values[1][i]);
      max[0][i] = both ? of_both : values[0][i];
      max[1][i] = both ? of_both : values[1][i];
    }
#pragma unroll 1
    for (int lanes = 4; lanes < end; lanes *= 2) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& each = max[i / 2][i % 2];
        each = fmaxf(each, __shfl_xor_sync(kAll, each, lanes));
      }
    }
    if (sums) {
      float sum[2][2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float lower = mass_of(values[0][i], max[0][i]);
        const float upper = mass_of(values[1][i], max[1][i]);
        sum[0][i] = both ? lower + upper : lower;
        sum[1][i] = both ? lower + upper : upper;
      }
#pragma unroll 1
      for (int lanes = 4; lanes < end; lanes *= 2) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& each = sum[i / 2][i % 2];
          each += __shfl_xor_sync(kAll, each, lanes);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& each = max[i / 2][i % 2];
        if (each != kNoLogit) each += __log2f(sum[i / 2][i % 2]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i / 2][i % 2] = max[i / 2][i % 2];
  }

  __device__ std::int32_t chunk(std::int32_t group, int half) const {
    const int row = half * 8 + tile_scan::lane() / 4;
    const bool is_first = (row & (min(chunks.chunk_size(), 16) - 1)) == 0;
    const std::int32_t chunk =
        chunks_shift() > 0 ? (group << chunks_shift()) + (row >> chunks.chunk_shift) : group;
    return is_first && chunk < chunks.count ? chunk : -1;
  }
  __device__ static float add(float a, float b, bool sums) {
    return sums ? log_of_sum(a, b) : fmaxf(a, b);
  }
};

/// The tiles of one stage as one of `num_warps` warps scans them.
template <typename Traits>
class TileScan {
 public:
  using Element = typename Traits::Element;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;

  /// Tiles of rows that a warp has on their way at most: those of its slots.
  static constexpr int kMostTiles = 2 * kSlotsPerWarp;

  const Stored* fallback_row;  ///< a row that exists, read where there is none
  const Element* queries;      ///< pooled rows in shared memory, padded to whole tiles
  int num_rows;
  StageLogits logits;
  int warp;  ///< of num_warps
  int num_warps;
  std::byte* memory;  ///< for `depth` times kHalves tiles, each `pitch` bytes behind the one before
  int pitch;
  int depth;

  /// Writes down what all tiles of this warp come to. Returns the rows that this lane has counted.
  template <typename Tiles>
  __device__ std::uint32_t run(const Tiles& tiles) const {
    constexpr int kDepth = kMostTiles / Tiles::kHalves;
    const std::int32_t num_groups = tiles.num_groups();
    const std::int32_t tiles_per_group = tiles.tiles_per_group();
    const auto advance = [&](Cursor& cursor) {
      if (++cursor.within < tiles_per_group) return;
      cursor.within = 0;
      cursor.group += num_warps;
    };
    std::uint32_t rows_read = 0;
    Cursor ahead{warp, 0};
    std::uint64_t exist = 0;  // 16 bits for each tile on its way
    Lookup lookups[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      lookups[i] = {-1, -1};
      if (i >= depth) continue;
      lookups[i] = look_up(tiles, ahead, num_groups);
      advance(ahead);
    }
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      if (i >= depth) continue;
      exist |= std::uint64_t{request(tiles, lookups[i], i)} << (16 * i);
      rows_read += lookups[i].position >= 0;
      commit_copies();
    }
    Lookup next = look_up(tiles, ahead, num_groups);
    int slot = 0;
#pragma unroll 1
    for (Cursor at{warp, 0}; at.group < num_groups; advance(at)) {
      wait_for_all_but(depth - 1);
      __syncwarp();
      take(tiles, at, static_cast<std::uint32_t>(exist), memory + slot * pitch);
      __syncwarp();  // all have read what the next rows overwrite
      exist >>= 16;
      if (ahead.group < num_groups) {
        exist |= std::uint64_t{request(tiles, next, slot)} << (16 * (depth - 1));
        rows_read += next.position >= 0;
        advance(ahead);
        next = look_up(tiles, ahead, num_groups);
      }
      commit_copies();  // an empty group, too: the wait counts on one for each tile
      slot = slot + 1 < depth ? slot + 1 : 0;
    }
    return lane() < 16 ? rows_read : 0u;
  }

 private:
  using Tile = SharedTile<Traits>;
  using Queries = typename Tile::Queries;
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return tile_scan::lane(); }

  struct Cursor {
    std::int32_t group;
    std::int32_t within;
  };

  /// Row lane % 16 of a tile, its page on the way.
  struct Lookup {
    std::int32_t position;  ///< -1: there is none
    std::int32_t page;
  };

  template <typename Tiles>
  __device__ static Lookup look_up(const Tiles& tiles, const Cursor& at, std::int32_t num_groups) {
    const std::int32_t position =
        at.group < num_groups ? tiles.position(at.group, at.within, lane() % 16) : -1;
    return {position, tiles.pages().page_where(position, position >= 0)};
  }

  /// Starts to copy a tile to slot `slot`. Returns which of its rows exist, a bit each.
  template <typename Tiles>
  __device__ std::uint32_t request(const Tiles& tiles, const Lookup& of, int slot) const {
    const RowSlot at = tiles.pages().slot(of.position, of.page);
    const bool exists = of.position >= 0 && at.page >= 0;
    const std::uint32_t all = __ballot_sync(kAll, exists) & 0xffffu;
    if (all == 0) return 0;
    const Stored* const row = exists ? tiles.row(at) : fallback_row;
    const Tile tile(memory + slot * pitch);
    tile.copy(rows_of(row));
    if constexpr (Tiles::kHalves == 2) {
      const Tile lower(memory + slot * pitch + kTileBytes<kHeadDim>);
      lower.copy(rows_of(exists ? tiles.lower(row) : fallback_row));
    }
    return all;
  }

  /// What this lane copies of a tile whose row i lane i has.
  __device__ static typename Tile::Rows rows_of(const Stored* row) {
    const int first = lane() / 8 * 2;
    return {{row_of(row, first), row_of(row, first + 1), row_of(row, first + 8),
             row_of(row, first + 9)}};
  }
  __device__ static const Stored* row_of(const Stored* row, int lane) {
    return reinterpret_cast<const Stored*>(
        __shfl_sync(kAll, reinterpret_cast<unsigned long long>(row), lane));
  }

  __device__ static void wait_for_all_but(int groups) {
    static_assert(kMostTiles == 4);
    if (groups == 3) {
      wait_for_groups<3>();
    } else if (groups == 2) {
      wait_for_groups<2>();
    } else if (groups == 1) {
      wait_for_groups<1>();
    } else {
      wait_for_groups<0>();
    }
  }

  /// Writes down what a tile that has arrived comes to. exist: bit i of row i.
  template <typename Tiles>
  __device__ void take(const Tiles& tiles, const Cursor& at, std::uint32_t exist,
                       std::byte* slot) const {
    const bool exists[2] = {(exist >> lane() / 4 & 1u) != 0, (exist >> (lane() / 4 + 8) & 1u) != 0};
    float best[2][2] = {{kNoLogit, kNoLogit}, {kNoLogit, kNoLogit}};
#pragma unroll 1
    for (int first = 0; first < num_rows; first += kRowsPerTile) {
      float c[4];
      multiply<Tiles::kHalves>(first, slot, c);
      float values[2][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& value = values[i / 2][i % 2];
        value = exists[i / 2] ? logits(c[i]) : kNoLogit;
        best[i / 2][0] = fmaxf(best[i / 2][0], value);
      }
      if (!logits.sums) continue;
      tiles.gather(values, true);
      put(tiles, at, first + lane() % 4 * 2, values);
    }
    if (logits.sums) return;
#pragma unroll
    for (auto& each : best) {
      each[0] = fmaxf(each[0], __shfl_xor_sync(kAll, each[0], 1));
      each[0] = fmaxf(each[0], __shfl_xor_sync(kAll, each[0], 2));
    }
    tiles.gather(best, false);
    if (lane() % 4 == 0) put(tiles, at, 0, best);
  }

  /// Products of the tile with eight rows from `first` on, as SharedTile::multiply gives them.
  template <int kHalves>
  __device__ void multiply(int first, std::byte* slot, float (&c)[4]) const {
    Queries of_rows(queries + first * kQueryPitch<kHeadDim>, kQueryPitch<kHeadDim>);
    if constexpr (kHalves == 1) {
      Tile(slot).multiply(of_rows, c);
    } else {
      Queries part = of_rows;
      for_each_pair(part, [](std::uint32_t pair) { return positive_pair<Element>(pair); });
      Tile(slot).multiply(part, c);
      for_each_pair(of_rows, [](std::uint32_t pair) { return negative_pair<Element>(pair); });
      float lower[4];
      Tile(slot + kTileBytes<kHeadDim>).multiply(of_rows, lower);
#pragma unroll
      for (int i = 0; i < 4; ++i) c[i] += lower[i];
    }
  }
  template <typename Change>
  __device__ static void for_each_pair(Queries& queries, Change&& change) {
#pragma unroll
    for (uint4& piece : queries.piece) {
      piece = {change(piece.x), change(piece.y), change(piece.z), change(piece.w)};
    }
  }

  /// values[half][i], of rows `row` + i of the logits, as far as there are so many.
  template <typename Tiles>
  __device__ void put(const Tiles& tiles, const Cursor& at, int row,
                      const float (&values)[2][2]) const {
    if (row >= logits.rows.num_rows) return;
    const bool has_second = row + 1 < logits.rows.num_rows;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int32_t chunk = tiles.chunk(at.group, half);
      if (chunk < 0) continue;
      float* const place = logits.rows.at(row, chunk);
      float* const second = place + logits.rows.stride;
      if (at.within == 0) {
        *place = values[half][0];
        if (has_second) *second = values[half][1];
      } else {
        *place = tiles.add(*place, values[half][0], logits.sums);
        if (has_second) *second = tiles.add(*second, values[half][1], logits.sums);
      }
    }
  }
};

}  // namespace hip_attn::cuda
