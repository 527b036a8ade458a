/// Landmarks of one request and KV head, by the first key of their chunk.
#pragma once

#include <bit>
#include <cstdint>

#include "hip_attn/cpu/call_error.hpp"
#include "hip_attn/landmarks.hpp"

namespace hip_attn::cpu {

/// Where the landmarks of one level are. The table entry of a landmark is checked when it is read;
/// a bad one is reported and reads `zeros` instead.
template <typename T>
class LandmarkRows {
 public:
  /// Of the level of this chunk size, which there is. zeros: [D] elements of T.
  LandmarkRows(const Landmarks<const T>& landmarks, std::int64_t chunk_size, std::int64_t request,
               std::int64_t kv_head, const T* zeros, CallError& error) noexcept
      : level_(*landmarks.find(chunk_size)),
        number_(static_cast<int>(&level_ - landmarks.levels.data())),
        head_(level_.rows.data + kv_head * level_.rows.strides[2]),
        chunk_shift_(std::countr_zero(static_cast<std::uint64_t>(chunk_size))),
        table_(level_.block_table
                   ? level_.block_table->data + request * level_.block_table->strides[0]
                   : nullptr),
        request_(request),
        kv_head_(kv_head),
        zeros_(zeros),
        error_(error) {}

  /// hi[i] and lo[i] point at the rows of the landmark whose chunk begins at first_keys[i].
  void find(const std::int32_t* first_keys, int n, const T** hi, const T** lo) const noexcept {
    for (int i = 0; i < n; ++i) {
      const std::int64_t landmark = first_keys[i] >> chunk_shift_;
      const std::int64_t column = landmark / level_.landmarks_per_page();
      const std::int64_t page = table_ ? table_[column] : request_;
      if (page < 0 || page >= level_.num_pages()) {
        error_.report(CallError::Kind::kLandmarkPage, request_, kv_head_, column, page, number_);
        hi[i] = lo[i] = zeros_;
        continue;
      }
      const std::int64_t offset = landmark - column * level_.landmarks_per_page();
      hi[i] = head_ + page * level_.rows.strides[0] + offset * level_.rows.strides[1];
      lo[i] = hi[i] + level_.rows.strides[3];
    }
  }

 private:
  const LandmarkLevel<const T>& level_;
  int number_;  // of the level in Landmarks::levels
  const T* head_;
  int chunk_shift_;
  const std::int32_t* table_;
  std::int64_t request_;
  std::int64_t kv_head_;
  const T* zeros_;
  CallError& error_;
};

}  // namespace hip_attn::cpu
