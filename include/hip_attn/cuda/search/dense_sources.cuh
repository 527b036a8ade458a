/// What a dense scan (dense_scan.cuh) streams: the landmarks of a stage's chunks, or all their
/// keys. Lists of chunks, and where the keys end, lie in shared memory.
///
/// Four warps fill a tile of 64 rows, of which a warp copies sixteen, eight lanes a row: in pass p
/// of four, lanes 8 q to 8 q + 7 (quarter q) have row 32 (q / 2) + 8 p + 2 warp + q % 2. A source
/// says where these rows lie. What a warp looks up for them, its items of a step, is a landmark, a
/// key, or a group of keys that lie side by side. Each lane takes one, so that the items of a round
/// of 32 / kItems steps are looked up at once, in two parts: it asks for the page, and later, when
/// that is there, makes the address and notes it. A source has
///
/// - kItems: of a warp and a step;
/// - step_shift(): log2 of the chunks of a step;
/// - look_up(step, warp, item), address(place): of an item, null if it is not there;
/// - fallback(): what is read in its place;
/// - item_of(quarter, pass): the one that a row comes from;
/// - rows(notes, quarter, d, rows): the rows of all passes, from element d on, from the addresses
///   noted of a step's items.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"
#include "hip_attn/cuda/search/dense_masses.cuh"

namespace hip_attn::cuda {

/// A row by position (of a key, or number of a landmark) and its page, -1 where there is none.
struct DensePlace {
  std::int32_t position;
  std::int32_t page;
};

/// Rows that a lane copies a piece of, for one tile.
inline constexpr int kDensePasses = 4;

/// Four addresses that were noted side by side, `offset` elements further.
template <typename Stored>
__device__ inline void load_noted_rows(std::uint32_t notes, std::int64_t offset,
                                       const Stored* (&rows)[kDensePasses]) {
  load_shared_addresses(notes, rows[0], rows[1]);
  load_shared_addresses(notes + 16, rows[2], rows[3]);
#pragma unroll
  for (const Stored*& row : rows) row += offset;
}

/// Where a chunk begins whose list, and the list of its parents, lie in shared memory.
__device__ inline std::int32_t shared_start(const ChunkList& chunks, std::int32_t chunk) {
  return chunks.start(
      chunk, [](const std::int32_t* parent) { return load_shared_int(shared_address(parent)); });
}

/// Landmarks of a list of chunks: a step's tile has hi of 32 chunks, then lo. An item is a
/// landmark.
template <typename Stored>
class LandmarkSource {
 public:
  static constexpr bool kIsLandmarks = true;
  static constexpr int kItems = 8;

  __device__ LandmarkSource(const LandmarkTensor<Stored>& landmarks, int request, int kv_head,
                            const ChunkList& chunks, const Stored* fallback_row)
      : rows_(landmarks, request, kv_head), chunks_(chunks) {
    const bool has_pages = landmarks.map.num_pages > 0;
    fallback_ = has_pages ? rows_.hi.row({0, 0}) : fallback_row;
    if (!has_pages) rows_.lo_offset = 0;
  }

  __device__ int step_shift() const { return kLandmarkStepShift; }

  __device__ DensePlace look_up(std::int32_t step, int warp, int item) const {
    const std::int32_t chunk =
        (step << kLandmarkStepShift) + item % kDensePasses * 8 + 2 * warp + item / kDensePasses;
    const bool exists = chunk < chunks_.count;
    const std::int32_t number = exists ? shared_start(chunks_, chunk) >> chunks_.chunk_shift : 0;
    return {number, rows_.pages.page_where(number, exists)};
  }
  __device__ const Stored* address(const DensePlace& place) const {
    const RowSlot slot = rows_.pages.slot(place.position, place.page);
    return slot.page < 0 ? nullptr : rows_.hi.row(slot);
  }
  __device__ const Stored* fallback() const { return fallback_; }

  __device__ static int item_of(int quarter, int pass) { return quarter % 2 * kDensePasses + pass; }
  __device__ void rows(std::uint32_t notes, int quarter, int d,
                       const Stored* (&rows)[kDensePasses]) const {
    load_noted_rows(notes + item_of(quarter, 0) * 8, (quarter < 2 ? 0 : rows_.lo_offset) + d, rows);
  }

 private:
  LandmarkRows<Stored> rows_;
  const ChunkList& chunks_;
  const Stored* fallback_;
};

/// Every key of a list of chunks of 8 to 64 keys, 64 keys to a step. Lane t of a quad has columns
/// 2 t and 2 t + 1 of every eight of a product. Keys are put where these are neighbours: column
/// 8 j + 2 t + b has key 8 t + 2 (j % 4) + b of half j / 4 of the step. Keys 8 t to 8 t + 7 of a
/// half are a group.
template <typename Stored>
class KeysOfSteps {
 public:
  static constexpr bool kIsLandmarks = false;

  __device__ KeysOfSteps(const KvTensors<Stored>& kv, int request, int kv_head,
                         const ChunkList& chunks, const std::int32_t& end)
      : pages_(kv.map, request, kv_head), keys_(kv.k, kv_head), chunks_(chunks), end_(end) {}

  __device__ int step_shift() const { return kDenseRowShift - chunks_.chunk_shift; }
  __device__ const Stored* address(const DensePlace& place) const {
    const RowSlot slot = pages_.slot(place.position, place.page);
    return slot.page < 0 ? nullptr : keys_.row(slot);
  }

 protected:
  /// The first key of a page that exists.
  __device__ const Stored* first_key() const { return keys_.row({0, 0}); }

  /// Of key `key` of a step.
  __device__ DensePlace look_up_key(std::int32_t step, int key) const {
    const int shift = chunks_.chunk_shift;
    const std::int32_t chunk = (step << step_shift()) + (key >> shift);
    const bool has_chunk = chunk < chunks_.count;
    const std::int32_t position =
        has_chunk ? shared_start(chunks_, chunk) + (key & ((1 << shift) - 1)) : 0;
    return {position, pages_.page_where(position, has_chunk && position < end_)};
  }

 private:
  RequestPages pages_;
  PagedRows<Stored> keys_;
  const ChunkList& chunks_;
  const std::int32_t& end_;
};

/// Where no group lies in two pages. An item is a group.
template <typename Stored>
class KeyGroupSource : public KeysOfSteps<Stored> {
 public:
  static constexpr int kItems = 2;

  __device__ KeyGroupSource(const KvTensors<Stored>& kv, int request, int kv_head,
                            const ChunkList& chunks, const std::int32_t& end)
      : KeysOfSteps<Stored>(kv, request, kv_head, chunks, end), token_stride_(kv.k.token_stride) {}

  /// Positions of groups are multiples of their size: chunks have at least as many keys, and the
  /// sink is a multiple of chunks (validate). There must be a page to fall back to.
  __device__ static bool takes(const PageMap& map) {
    return (map.page_size % kGroup == 0 || map.table_columns == 1) && map.num_pages > 0;
  }

  __device__ const Stored* fallback() const { return this->first_key(); }

  __device__ DensePlace look_up(std::int32_t step, int warp, int item) const {
    return this->look_up_key(step, item * (kDenseRows / 2) + warp * kGroup);
  }

  __device__ static int item_of(int quarter, int /*pass*/) { return quarter / 2; }
  __device__ void rows(std::uint32_t notes, int quarter, int d,
                       const Stored* (&rows)[kDensePasses]) const {
    rows[0] = load_shared_address<Stored>(notes + item_of(quarter, 0) * 8) +
              ((quarter % 2 == 0 ? 0 : token_stride_) + d);
#pragma unroll
    for (int pass = 1; pass < kDensePasses; ++pass) rows[pass] = rows[pass - 1] + 2 * token_stride_;
  }

 private:
  static constexpr int kGroup = 8;
  std::int64_t token_stride_;
};

/// Wherever keys lie. An item is a key.
template <typename Stored>
class KeySource : public KeysOfSteps<Stored> {
 public:
  static constexpr int kItems = 16;

  __device__ KeySource(const KvTensors<Stored>& kv, int request, int kv_head,
                       const ChunkList& chunks, const std::int32_t& end, const Stored* fallback_row)
      : KeysOfSteps<Stored>(kv, request, kv_head, chunks, end), fallback_(fallback_row) {}

  __device__ const Stored* fallback() const { return fallback_; }

  __device__ DensePlace look_up(std::int32_t step, int warp, int item) const {
    const int quarter = item / kDensePasses;
    return this->look_up_key(
        step, quarter / 2 * (kDenseRows / 2) + 8 * warp + item % kDensePasses * 2 + quarter % 2);
  }

  __device__ static int item_of(int quarter, int pass) { return quarter * kDensePasses + pass; }
  __device__ void rows(std::uint32_t notes, int quarter, int d,
                       const Stored* (&rows)[kDensePasses]) const {
    load_noted_rows(notes + item_of(quarter, 0) * 8, d, rows);
  }

 private:
  const Stored* fallback_;
};

}  // namespace hip_attn::cuda
