#include "batch_arrays.hpp"

#include <algorithm>
#include <span>

namespace llama {

BatchArrays::BatchArrays(const BatchLimits& limits, std::int64_t page_size,
                         std::span<const std::int64_t> landmark_chunks, Backend& backend)
    : table_cols_(std::max<std::int64_t>(1, (limits.seq_len + page_size - 1) / page_size)),
      seq_lens_(backend, limits.sequences),
      cu_seqlens_q_(backend, limits.sequences + 1),
      slots_(backend, limits.sequences),
      block_table_(backend, limits.sequences * table_cols_),
      slot_mapping_(backend, limits.rows()) {
  for (const std::int64_t chunk_size : landmark_chunks) {
    const LandmarkPlaces places(chunk_size, page_size);
    if (places.in_pages_of_keys()) continue;
    const std::int64_t cols = std::max<std::int64_t>(1, places.columns(table_cols_));
    landmark_tables_.push_back({places, cols, {backend, limits.sequences * cols}});
  }
}

void BatchArrays::load(const Batch& batch) {
  size_ = batch.size();
  total_q_ = batch.total_q();
  seq_lens_.upload(batch.seq_lens);
  cu_seqlens_q_.upload(batch.cu_seqlens_q);
  slots_.upload(batch.slots);
  slot_mapping_.upload(batch.slot_mapping);
  // Decode steps add a page every page_size tokens; the table of a long text is large.
  if (batch.block_table == loaded_table_) return;
  loaded_table_ = batch.block_table;
  for (std::int64_t b = 0; b < size_; ++b) {
    const auto pages = std::span(loaded_table_).subspan(b * batch.max_pages, batch.max_pages);
    block_table_.upload(pages, b * table_cols_);
    for (LandmarkTable& table : landmark_tables_) {
      table.entries.upload(table.places.row(pages), b * table.cols);
    }
  }
}

hip_attn::TensorView<const std::int32_t, 2> BatchArrays::landmark_table(
    std::int64_t chunk_size) const {
  for (const LandmarkTable& table : landmark_tables_) {
    if (table.places.chunk_size() == chunk_size) return {table.entries.data(), {size_, table.cols}};
  }
  return block_table();
}

}  // namespace llama
