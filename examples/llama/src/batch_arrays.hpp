/// A batch's lengths, places and pages in the memory of a backend, as hip_attn takes them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "batch.hpp"
#include "buffer.hpp"
#include "hip_attn/types.hpp"
#include "landmark_places.hpp"

namespace llama {

/// The arrays stay where they are from batch to batch, and so does the row stride of the block
/// table: what was recorded for one decode step reads those of the next.
class BatchArrays {
 public:
  /// landmark_chunks: chunk sizes of the landmarks that a layer keeps.
  BatchArrays(const BatchLimits& limits, std::int64_t page_size,
              std::span<const std::int64_t> landmark_chunks, Backend& backend);

  void load(const Batch& batch);

  template <typename T>
  using Array = hip_attn::TensorView<const T, 1>;
  [[nodiscard]] Array<std::int32_t> seq_lens() const { return {seq_lens_.data(), {size_}}; }
  [[nodiscard]] Array<std::int32_t> cu_seqlens_q() const {
    return {cu_seqlens_q_.data(), {size_ + 1}};
  }
  [[nodiscard]] Array<std::int32_t> slots() const { return {slots_.data(), {size_}}; }
  [[nodiscard]] Array<std::int64_t> slot_mapping() const {
    return {slot_mapping_.data(), {total_q_}};
  }
  [[nodiscard]] hip_attn::TensorView<const std::int32_t, 2> block_table() const {
    return {block_table_.data(), {size_, table_cols_}};
  }
  /// Of landmarks of one of landmark_chunks.
  [[nodiscard]] hip_attn::TensorView<const std::int32_t, 2> landmark_table(
      std::int64_t chunk_size) const;

 private:
  /// Of landmarks that do not share the keys' block table.
  struct LandmarkTable {
    LandmarkPlaces places;
    std::int64_t cols;
    Buffer<std::int32_t> entries;
  };

  std::int64_t size_ = 0;  // sequences of the batch
  std::int64_t total_q_ = 0;
  std::int64_t table_cols_;  // pages of the longest sequence
  Buffer<std::int32_t> seq_lens_, cu_seqlens_q_, slots_, block_table_;
  Buffer<std::int64_t> slot_mapping_;
  std::vector<LandmarkTable> landmark_tables_;
  std::vector<std::int32_t> loaded_table_;  // Batch::block_table as it was uploaded last
};

}  // namespace llama
