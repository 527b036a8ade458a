/// Keys and values of one request and KV head, by position.
#pragma once

#include <bit>
#include <cstdint>

#include "hip_attn/cpu/call_error.hpp"
#include "hip_attn/kv.hpp"

namespace hip_attn::cpu {

/// Where the rows of one request and KV head are. The table entry of a position is checked when the
/// position is read; a bad one is reported and reads `zeros` instead.
template <typename T>
class KvRows {
 public:
  /// zeros: [D] elements of T.
  KvRows(const PagedKv<T>& kv, std::int64_t request, std::int64_t kv_head, const T* zeros,
         CallError& error) noexcept
      : k_(kv.pages.k.data + kv_head * kv.pages.k.strides[2]),
        v_(kv.pages.v.data + kv_head * kv.pages.v.strides[2]),
        k_page_stride_(kv.pages.k.strides[0]),
        k_token_stride_(kv.pages.k.strides[1]),
        v_page_stride_(kv.pages.v.strides[0]),
        v_token_stride_(kv.pages.v.strides[1]),
        page_size_(kv.pages.page_size()),
        num_pages_(kv.pages.num_pages()),
        page_shift_(std::has_single_bit(static_cast<std::uint64_t>(page_size_))
                        ? std::countr_zero(static_cast<std::uint64_t>(page_size_))
                        : -1),
        table_(kv.block_table ? kv.block_table->data + request * kv.block_table->strides[0]
                              : nullptr),
        request_(request),
        kv_head_(kv_head),
        zeros_(zeros),
        error_(error) {}

  /// keys[i] and, when values is not null, values[i] point at the rows of positions[i].
  void find(const std::int32_t* positions, int n, const T** keys, const T** values) const noexcept {
    for (int i = 0; i < n; ++i) {
      const std::int64_t position = positions[i];
      const std::int64_t column =
          page_shift_ >= 0 ? position >> page_shift_ : position / page_size_;
      const std::int64_t page = table_ ? table_[column] : request_;
      if (page < 0 || page >= num_pages_) {
        error_.report(CallError::Kind::kPage, request_, kv_head_, column, page);
        keys[i] = zeros_;
        if (values) values[i] = zeros_;
        continue;
      }
      const std::int64_t offset = position - column * page_size_;
      keys[i] = k_ + page * k_page_stride_ + offset * k_token_stride_;
      if (values) values[i] = v_ + page * v_page_stride_ + offset * v_token_stride_;
    }
  }

 private:
  const T* k_;
  const T* v_;
  std::int64_t k_page_stride_;
  std::int64_t k_token_stride_;
  std::int64_t v_page_stride_;
  std::int64_t v_token_stride_;
  std::int64_t page_size_;
  std::int64_t num_pages_;
  int page_shift_;  // log2 of a power-of-two page size, else -1
  const std::int32_t* table_;
  std::int64_t request_;
  std::int64_t kv_head_;
  const T* zeros_;
  CallError& error_;
};

}  // namespace hip_attn::cpu
