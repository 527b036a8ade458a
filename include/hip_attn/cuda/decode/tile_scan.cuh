/// Stage "scan" of decode by rules that need no answer before they know what to read next:
/// landmarks, every key, and keys at fixed places of a chunk. A warp asks for all the rows that its
/// part of shared memory holds before it multiplies the first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/queries.cuh"
#include "hip_attn/cuda/decode/stage_logits.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/lanes.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"
#include "hip_attn/cuda/search/rules.cuh"

namespace hip_attn::cuda {

/// A warp copies 32 rows at a time, one looked up by each lane, into two tiles of 16: a bundle. A
/// rule's bundles come in groups, all of a group by one warp and in ascending order: bundle
/// `within` of group `group`. The lists below say of them:
///
/// - num_groups, bundles_per_group, and kRows: rows of chunks or keys that a bundle has, 16 where
///   its second tile holds the lower bounds of the first;
/// - position(group, within, lane): where the row of a lane stands among the rows of `pages`, -1 if
///   nowhere; row(slot, lane): it, of a slot that has a page;
/// - visit(group, logits, sums, put): put(chunk, row, logit) for every chunk that this lane writes
///   down. Called by the whole warp with the lane's products, as SharedTile::multiply leaves them:
///   logits[4 tile + 2 half + i] of row g + 8 half of the tile (g = lane / 4) and query row
///   2 t + i (t = lane % 4), which put gets as `row`;
/// - add(a, b, sums): from two bundles of a group.

namespace tile_scan {
inline constexpr std::uint32_t kAll = 0xffffffffu;

__device__ inline int lane() { return static_cast<int>(threadIdx.x % 32); }
}  // namespace tile_scan

/// A row of each chunk, kRows_ chunks to a bundle.
template <int kRows_>
struct RowsOfChunks {
  static constexpr int kRows = kRows_;
  const ChunkList& chunks;

  __device__ std::int32_t num_groups() const { return (chunks.count + kRows - 1) / kRows; }
  __device__ std::int32_t chunk_of_lane(std::int32_t group, int lane) const {
    return group * kRows + lane % kRows;
  }
  template <typename Put>
  __device__ void visit(std::int32_t group, const float (&logits)[kRows / 4], bool /*sums*/,
                        Put&& put) const {
    const int lane = tile_scan::lane();
    const std::int32_t first = group * kRows + lane / 4;
#pragma unroll
    for (int i = 0; i < kRows / 8; ++i) {
      if (first + 8 * i >= chunks.count) return;
      put(first + 8 * i, lane % 4 * 2, logits[2 * i]);
      put(first + 8 * i, lane % 4 * 2 + 1, logits[2 * i + 1]);
    }
  }
  __device__ static float add(float a, float b, bool /*sums*/) { return fmaxf(a, b); }
};

/// Their landmarks.
template <typename Stored>
struct LandmarkTiles : RowsOfChunks<16> {
  LandmarkRows<Stored> landmarks;
  std::int64_t capacity;  ///< landmarks that the pages of a request hold

  __device__ LandmarkTiles(const ChunkList& chunks_, const LandmarkTensor<Stored>& tensor,
                           int request, int kv_head)
      : RowsOfChunks{chunks_},
        landmarks(tensor, request, kv_head),
        capacity(tensor.map.capacity()) {}

  __device__ static std::int32_t bundles_per_group() { return 1; }
  __device__ std::int32_t position(std::int32_t group, std::int32_t /*within*/, int lane) const {
    const std::int32_t chunk = chunk_of_lane(group, lane);
    if (chunk >= chunks.count) return -1;
    const std::int32_t number = chunks.start(chunk) >> chunks.chunk_shift;
    return number < capacity ? number : -1;
  }
  __device__ const RequestPages& pages() const { return landmarks.pages; }
  __device__ const Stored* row(RowSlot slot, int lane) const {
    return landmarks.hi.row(slot) + (lane < kRows ? 0 : landmarks.lo_offset);
  }
};

/// Keys of a cache; the last chunk ends at `end`.
template <typename Stored>
struct KeysOfChunks {
  const KvRows<Stored>& kv;
  std::int32_t end;

  __device__ const RequestPages& pages() const { return kv.pages; }
  __device__ const Stored* row(RowSlot slot, int /*lane*/) const { return kv.keys.row(slot); }
};

/// The keys that a rule reads of 32 chunks, one bundle for each of its kKeys.
template <typename Stored, typename Rule>
struct FixedKeyTiles : RowsOfChunks<32>, KeysOfChunks<Stored> {
  __device__ FixedKeyTiles(const ChunkList& chunks_, const KvRows<Stored>& kv_, std::int32_t end_)
      : RowsOfChunks{chunks_}, KeysOfChunks<Stored>{kv_, end_} {}

  __device__ static std::int32_t bundles_per_group() { return Rule::kKeys; }
  __device__ std::int32_t position(std::int32_t group, std::int32_t within, int lane) const {
    const std::int32_t chunk = chunk_of_lane(group, lane);
    if (chunk >= chunks.count) return -1;
    const std::int32_t l = chunks.start(chunk);
    return Rule::position(ChunkRange{l, min(l + chunks.chunk_size(), this->end)}, within);
  }
};

/// All keys: bundles of up to 32 whole chunks, or one chunk in several bundles.
template <typename Stored>
struct EveryKeyTiles : KeysOfChunks<Stored> {
  static constexpr int kRows = 32;
  const ChunkList& chunks;

  __device__ EveryKeyTiles(const ChunkList& chunks_, const KvRows<Stored>& kv_, std::int32_t end_)
      : KeysOfChunks<Stored>{kv_, end_}, chunks(chunks_) {}

  /// log2 of the chunks of a bundle, negative: of the bundles of a chunk.
  __device__ int chunks_shift() const { return 5 - chunks.chunk_shift; }
  __device__ std::int32_t num_groups() const {
    const int shift = max(chunks_shift(), 0);
    return (chunks.count + (1 << shift) - 1) >> shift;
  }
  __device__ std::int32_t bundles_per_group() const { return 1 << max(-chunks_shift(), 0); }
  __device__ std::int32_t position(std::int32_t group, std::int32_t within, int lane) const {
    const std::int32_t chunk = chunk_at(group, lane);
    if (chunk >= chunks.count) return -1;
    const std::int32_t position =
        chunks.start(chunk) + ((within * kRows + lane) & (chunks.chunk_size() - 1));
    return position < this->end ? position : -1;
  }

  /// Every lane gets the eight logits that one query row has for eight neighbouring keys, and adds
  /// them up by itself.
  template <typename Put>
  __device__ void visit(std::int32_t group, float (&logits)[8], bool sums, Put&& put) const {
    // Bits of lane / 4: which of two query rows, half of a tile, tile.
    transpose_lanes<4>(logits);
    const int lane = tile_scan::lane();
    const int octet = lane / 8;
    const int row = lane % 4 * 2 + (lane / 4 & 1);
    const int keys = min(chunks.chunk_size(), 8);
#pragma unroll 1
    for (int key = octet * 8;;) {
      float max = kNoLogit;
#pragma unroll
      for (int i = 0; i < 8; ++i) max = i < keys ? fmaxf(max, logits[i]) : max;
      float value = max;
      if (sums && fabsf(max) != INFINITY) {
        float sum = 0.f;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += i < keys ? exp2_fast(logits[i] - max) : 0.f;
        value += __log2f(sum);
      }
#pragma unroll 1
      for (int lanes = 8; lanes < min(chunks.chunk_size(), kRows); lanes *= 2) {
        value = add(value, __shfl_xor_sync(tile_scan::kAll, value, lanes), sums);
      }
      const bool is_first = (key & (min(chunks.chunk_size(), kRows) - 1)) == 0;
      const std::int32_t chunk = chunk_at(group, key);
      if (is_first && chunk < chunks.count) put(chunk, row, value);
      key += keys;
      if (key % 8 == 0) [[likely]]
        return;
#pragma unroll 1
      for (int i = 0; i < keys; ++i) rotate(logits);
    }
  }
  __device__ static float add(float a, float b, bool sums) {
    return sums ? log_of_sum(a, b) : fmaxf(a, b);
  }

 private:
  /// Of a key of a group, by its place in the bundle.
  __device__ std::int32_t chunk_at(std::int32_t group, int key) const {
    return chunks_shift() > 0 ? (group << chunks_shift()) + (key >> chunks.chunk_shift) : group;
  }

  __device__ static void rotate(float (&values)[8]) {
    const float first = values[0];
#pragma unroll
    for (int i = 0; i < 7; ++i) values[i] = values[i + 1];
    values[7] = first;
  }
};

/// The bundles of one stage as one of `num_warps` warps scans them.
template <typename Traits>
class TileScan {
 public:
  using Element = typename Traits::Element;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;

  const Stored* fallback_row;  ///< a row that exists, read where there is none
  const Element* queries;      ///< pooled rows in shared memory, padded to whole tiles
  int num_rows;
  StageLogits logits;
  int warp;  ///< of num_warps
  int num_warps;
  std::byte* first_slot;   ///< slot_bytes of memory for a bundle
  std::byte* second_slot;  ///< the same for one more; null: there is none

  /// Writes down what all bundles of this warp come to. Returns the rows that this lane has
  /// counted.
  template <typename Tiles>
  __device__ std::uint32_t run(const Tiles& tiles) const {
    const std::int32_t num_groups = tiles.num_groups();
    const std::int32_t bundles_per_group = tiles.bundles_per_group();
    const auto advance = [&](Cursor& cursor) {
      if (++cursor.within < bundles_per_group) return;
      cursor.within = 0;
      cursor.group += num_warps;
    };
    const bool two = second_slot != nullptr;
    Cursor ahead{warp, 0};
    const Lookup first = look_up(tiles, ahead, num_groups);
    advance(ahead);
    Lookup next = look_up(tiles, ahead, num_groups);
    std::uint32_t rows_read = first.position >= 0;
    std::uint64_t exist = request(tiles, first, first_slot);  // 32 bits for each bundle on its way
    commit_copies();
    if (two) {
      exist |= std::uint64_t{request(tiles, next, second_slot)} << 32;
      rows_read += next.position >= 0;
      advance(ahead);
      next = look_up(tiles, ahead, num_groups);
    }
    commit_copies();
    std::byte* at_work = first_slot;
#pragma unroll 1
    for (Cursor at{warp, 0}; at.group < num_groups; advance(at)) {
      wait_for_groups<1>();
      __syncwarp();
      take(tiles, at, static_cast<std::uint32_t>(exist), at_work);
      __syncwarp();  // all have read what the next rows overwrite
      exist >>= 32;
      if (ahead.group < num_groups) {
        exist |= std::uint64_t{request(tiles, next, at_work)} << (two ? 32 : 0);
        rows_read += next.position >= 0;
        advance(ahead);
        next = look_up(tiles, ahead, num_groups);
      }
      commit_copies();
      if (two) {
        at_work = at_work == first_slot ? second_slot : first_slot;
      } else {
        commit_copies();  // an empty group: the wait is for all but one
      }
    }
    return tile_scan::lane() < Tiles::kRows ? rows_read : 0u;
  }

 private:
  using Tile = SharedTile<Traits>;
  using Queries = typename Tile::Queries;
  static constexpr std::uint32_t kAll = tile_scan::kAll;

  struct Cursor {
    std::int32_t group;
    std::int32_t within;
  };

  /// This lane's row of a bundle, its page on the way.
  struct Lookup {
    std::int32_t position;  ///< -1: there is none
    std::int32_t page;
  };

  template <typename Tiles>
  __device__ static Lookup look_up(const Tiles& tiles, const Cursor& at, std::int32_t num_groups) {
    const std::int32_t position =
        at.group < num_groups ? tiles.position(at.group, at.within, tile_scan::lane()) : -1;
    return {position, tiles.pages().page_where(position, position >= 0)};
  }

  /// Starts to copy a bundle to `slot`. Returns which of its rows exist, a bit each.
  template <typename Tiles>
  __device__ std::uint32_t request(const Tiles& tiles, const Lookup& of, std::byte* slot) const {
    using Rows = typename Tile::Rows;
    const RowSlot at = tiles.pages().slot(of.position, of.page);
    const bool exists = of.position >= 0 && at.page >= 0;
    const std::uint32_t all = __ballot_sync(kAll, exists);
    if (all == 0) return 0;
    // The list of rows lies where they will go.
    const std::uint32_t list =
        Tile::list(slot, exists ? tiles.row(at, tile_scan::lane()) : fallback_row);
    __syncwarp();
    const Rows upper = Rows::from_list(list, 0);
    const Rows lower = Rows::from_list(list, 1);
    __syncwarp();
    Tile(slot).copy(upper);
    Tile(slot + kTileBytes<kHeadDim>).copy(lower);
    return all;
  }

  /// Writes down what a bundle that has arrived comes to. exist: bit i of the row of lane i.
  template <typename Tiles>
  __device__ void take(const Tiles& tiles, const Cursor& at, std::uint32_t exist,
                       std::byte* slot) const {
    constexpr int kLogits = Tiles::kRows / 4;
    exist >>= tile_scan::lane() / 4;  // bit 8 i: of logits 2 i and 2 i + 1
    float best[kLogits];
#pragma unroll
    for (float& each : best) each = kNoLogit;
#pragma unroll 1
    for (int first = 0; first < num_rows; first += kRowsPerTile) {
      float values[kLogits];
      multiply(first, slot, values);
#pragma unroll
      for (int i = 0; i < kLogits; ++i) {
        values[i] = exist >> (i / 2 * 8) & 1u ? logits(values[i]) : kNoLogit;
        best[i] = fmaxf(best[i], values[i]);
      }
      if (logits.sums) write_down(tiles, at, first, values);
    }
    if (logits.sums) return;
      // Of all query rows, as if it were that of each.
#pragma unroll
    for (int i = 0; i < kLogits; i += 2) {
      float& each = best[i];
      each = fmaxf(each, best[i + 1]);
      each = fmaxf(each, __shfl_xor_sync(kAll, each, 1));
      each = fmaxf(each, __shfl_xor_sync(kAll, each, 2));
      best[i + 1] = each;
    }
    write_down(tiles, at, 0, best);
  }

  template <typename Tiles>
  __device__ void write_down(const Tiles& tiles, const Cursor& at, int first_row,
                             float (&values)[Tiles::kRows / 4]) const {
    tiles.visit(at.group, values, logits.sums, [&](std::int32_t chunk, int row, float value) {
      row += first_row;
      if (row >= logits.rows.num_rows) return;
      float* const place = logits.rows.at(row, chunk);
      *place = at.within == 0 ? value : tiles.add(*place, value, logits.sums);
    });
  }

  /// Products of both tiles with eight query rows from `first` on.
  __device__ void multiply(int first, std::byte* slot, float (&c)[8]) const {
    const Queries rows(queries + first * kQueryPitch<kHeadDim>, kQueryPitch<kHeadDim>);
    float of_tile[4];
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      Tile(slot + tile * kTileBytes<kHeadDim>).multiply(rows, of_tile);
#pragma unroll
      for (int i = 0; i < 4; ++i) c[tile * 4 + i] = of_tile[i];
    }
  }
  /// Of landmarks: of upper bounds with what is positive of the query rows, of lower ones with what
  /// is negative.
  __device__ void multiply(int first, std::byte* slot, float (&c)[4]) const {
    Queries rows(queries + first * kQueryPitch<kHeadDim>, kQueryPitch<kHeadDim>);
    Queries part = rows;
    for_each_pair(part, [](std::uint32_t pair) { return positive_pair<Element>(pair); });
    Tile(slot).multiply(part, c);
    for_each_pair(rows, [](std::uint32_t pair) { return negative_pair<Element>(pair); });
    float lower[4];
    Tile(slot + kTileBytes<kHeadDim>).multiply(rows, lower);
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] += lower[i];
  }
  template <typename Change>
  __device__ static void for_each_pair(Queries& queries, Change&& change) {
#pragma unroll
    for (uint4& piece : queries.piece) {
      piece = {change(piece.x), change(piece.y), change(piece.z), change(piece.w)};
    }
  }
};

}  // namespace hip_attn::cuda
