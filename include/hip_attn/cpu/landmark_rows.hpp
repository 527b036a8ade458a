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
  /// zeros: [D] elements of T.
  LandmarkRows(const LandmarkLevel<const T>& level, std::int64_t request, std::int64_t kv_head,
               const T* zeros, CallError& error) noexcept
      : level_(level),
        head_(level.rows.data + kv_head * level.rows.strides[2]),
        chunk_shift_(std::countr_zero(static_cast<std::uint64_t>(level.chunk_size))),
        table_(level.block_table ? level.block_table->data + request * level.block_table->strides[0]
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
        error_.report(CallError::Kind::kLandmarkPage, request_, kv_head_, column, page);
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
  const T* head_;
  int chunk_shift_;
  const std::int32_t* table_;
  std::int64_t request_;
  std::int64_t kv_head_;
  const T* zeros_;
  CallError& error_;
};

}  // namespace hip_attn::cpu
