/// What a dense scan (dense_scan.cuh) streams: the landmarks of a stage's chunks, or all their
/// keys. A source says where each row of a step's tile lies, in two steps: it asks for the row's
/// page, and later, when that is there, makes the address.
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

/// Where a chunk begins whose list, and the list of its parents, lie in shared memory.
__device__ inline std::int32_t shared_start(const ChunkList& chunks, std::int32_t chunk) {
  return chunks.start(
      chunk, [](const std::int32_t* parent) { return load_shared_int(shared_address(parent)); });
}

/// Landmarks of a list of chunks: a step's tile has hi of 32 chunks, then lo.
template <typename Stored>
class LandmarkSource {
 public:
  static constexpr bool kIsLandmarks = true;

  __device__ LandmarkSource(const LandmarkTensor<Stored>& landmarks, int request, int kv_head,
                            const ChunkList& chunks)
      : rows_(landmarks, request, kv_head), chunks_(chunks) {}

  /// log2 of the chunks of a step.
  __device__ int step_shift() const { return kLandmarkStepShift; }

  /// Where row `row` of a tile is.
  __device__ DensePlace look_up(std::int32_t step, int row) const {
    const std::int32_t chunk = (step << kLandmarkStepShift) + row % kLandmarksPerStep;
    const bool exists = chunk < chunks_.count;
    const std::int32_t number = exists ? shared_start(chunks_, chunk) >> chunks_.chunk_shift : 0;
    return {number, rows_.pages.page_where(number, exists)};
  }
  /// Null: it has no page.
  __device__ const Stored* row(const DensePlace& place, int row) const {
    const RowSlot slot = rows_.pages.slot(place.position, place.page);
    if (slot.page < 0) return nullptr;
    return rows_.hi.row(slot) + (row < kLandmarksPerStep ? 0 : rows_.lo_offset);
  }

 private:
  LandmarkRows<Stored> rows_;
  const ChunkList& chunks_;
};

/// Every key of a list of chunks of 8 to 64 keys, 64 keys to a step. Lane t of a quad has columns
/// 2 t and 2 t + 1 of every eight of a product. Keys are put where these are neighbours: keys 8 t
/// to 8 t + 7 of each half of a step.
template <typename Stored>
class KeySource {
 public:
  static constexpr bool kIsLandmarks = false;

  __device__ KeySource(const KvTensors<Stored>& kv, int request, int kv_head,
                       const ChunkList& chunks, std::int32_t end)
      : pages_(kv.map, request, kv_head), keys_(kv.k, kv_head), chunks_(chunks), end_(end) {}

  /// log2 of the chunks of a step.
  __device__ int step_shift() const { return kDenseRowShift - chunks_.chunk_shift; }

  __device__ DensePlace look_up(std::int32_t step, int row) const {
    // Column 8 j + 2 t + b of the product has key 8 t + 2 (j % 4) + b of half j / 4.
    const int key = row / 32 * 32 + row % 8 / 2 * 8 + row / 8 % 4 * 2 + row % 2;
    const int shift = chunks_.chunk_shift;
    const std::int32_t chunk = (step << step_shift()) + (key >> shift);
    const bool has_chunk = chunk < chunks_.count;
    const std::int32_t position =
        has_chunk ? shared_start(chunks_, chunk) + (key & ((1 << shift) - 1)) : 0;
    return {position, pages_.page_where(position, has_chunk && position < end_)};
  }
  __device__ const Stored* row(const DensePlace& place, int /*row*/) const {
    const RowSlot slot = pages_.slot(place.position, place.page);
    return slot.page < 0 ? nullptr : keys_.row(slot);
  }

 private:
  RequestPages pages_;
  PagedRows<Stored> keys_;
  const ChunkList& chunks_;
  std::int32_t end_;
};

}  // namespace hip_attn::cuda
