/// Keys and values of one request and KV head, by position.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/ptx/register.cuh"

namespace hip_attn::cuda {

/// Tokens that the pages of one request can hold.
template <typename T>
__device__ std::int64_t capacity(const KvParams<T>& kv) {
  return std::int64_t{kv.page_size} * (kv.block_table ? kv.table_columns : 1);
}

/// position / page_size: the column of the block table that has the position's page.
template <typename T>
__device__ std::int32_t page_column(const KvParams<T>& kv, std::int32_t position) {
  return static_cast<std::int32_t>(
      __umulhi(2u * static_cast<std::uint32_t>(position), kv.column_factor) >> kv.column_shift);
}

/// Finds rows through the block table. A table entry that is not a page gives a negative slot,
/// which callers turn into NaN (attention) or -inf (search): no memory outside the pages is read.
template <typename T>
class KvRows {
 public:
  __device__ KvRows(const KvParams<T>& params, int request, int kv_head)
      : params_(params),
        k_(params.k.data + kv_head * params.k.head_stride),
        v_(params.v.data + kv_head * params.v.head_stride),
        table_(params.block_table + request * params.table_row_stride),
        request_(request) {}

  /// Where table and keys begin is found now, and not again at every use.
  __device__ void stay_in_registers() {
    table_ = in_register(table_);
    k_ = in_register(k_);
  }

  struct Slot {
    std::int32_t page;
    std::int32_t offset;
  };

  __device__ Slot slot(std::int32_t position) const { return slot(position, page(position)); }

  /// The same in two steps, for those who hide the block table's latency.
  __device__ std::int32_t page(std::int32_t position) const {
    return table_ ? __ldg(table_ + page_column(params_, position)) : request_;
  }
  /// page(position), or -1 where it is not wanted. Read in place, so that nothing waits for it
  /// here.
  __device__ std::int32_t request_page(std::int32_t position, bool wanted) const {
    std::int32_t page = wanted ? request_ : -1;
    const auto* const entry = table_ + page_column(params_, position);
    read_in_place(page, entry, wanted && table_);
    return page;
  }
  /// The same of a table that is perhaps being written.
  __device__ std::int32_t page_hint(std::int32_t position) const {
    return table_ ? read_hint(table_ + page_column(params_, position)) : request_;
  }
  __device__ Slot slot(std::int32_t position, std::int32_t page) const {
    return {page < params_.num_pages ? page : -1,
            position - page_column(params_, position) * params_.page_size};
  }

  __device__ const T* key(Slot slot) const { return k_ + offset(params_.k, slot); }
  __device__ const T* value(Slot slot) const { return v_ + offset(params_.v, slot); }

  /// The slot, or when it has no page any that has.
  __device__ static Slot existing(Slot slot) { return slot.page >= 0 ? slot : Slot{0, 0}; }

 private:
  __device__ static std::int64_t offset(const PageParams<T>& pages, Slot slot) {
    return slot.page * pages.page_stride + slot.offset * pages.token_stride;
  }

  const KvParams<T>& params_;
  const T* k_;
  const T* v_;
  const std::int32_t* table_;
  int request_;
};

}  // namespace hip_attn::cuda
