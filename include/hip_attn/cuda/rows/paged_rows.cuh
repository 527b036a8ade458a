/// Rows of a paged cache by position: the one way to find a key or a value.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/ptx/register.cuh"

namespace hip_attn::cuda {

/// A row's page, negative where the block table names none, and its place there.
struct RowSlot {
  std::int32_t page;
  std::int32_t offset;
};

/// The pages of one request. A table entry that is not a page gives a negative slot, which callers
/// turn into NaN (attention) or -inf (search): no memory outside the pages is read.
class RequestPages {
 public:
  __device__ RequestPages(const PageMap& map, int request, int kv_head)
      : map_(map),
        table_(map.block_table + row_of(map, request) * map.table_row_stride +
               kv_head * map.table_head_stride),
        request_(request) {}

  /// Where the table begins is found now, and not again at every use.
  __device__ void stay_in_registers() { table_ = in_register(table_); }

  __device__ RowSlot slot(std::int32_t position) const { return slot(position, page(position)); }

  /// The same in two steps, for those who hide the block table's latency.
  __device__ std::int32_t page(std::int32_t position) const {
    return table_ ? __ldg(table_ + map_.column(position)) : request_;
  }
  /// page(position), or -1 where it is not wanted. Read in place, so that nothing waits for it
  /// here.
  __device__ std::int32_t page_where(std::int32_t position, bool wanted) const {
    std::int32_t page = wanted ? request_ : -1;
    const auto* const entry = table_ + map_.column(position);
    read_in_place(page, entry, wanted && table_);
    return page;
  }
  /// page(position) of a table that is perhaps being written.
  __device__ std::int32_t page_hint(std::int32_t position) const {
    return table_ ? read_hint(table_ + map_.column(position)) : request_;
  }
  __device__ RowSlot slot(std::int32_t position, std::int32_t page) const {
    return {page < map_.num_pages ? page : -1, map_.offset(position)};
  }

 private:
  /// Behind the rows that may be named there is one without pages.
  __device__ static std::int32_t row_of(const PageMap& map, int request) {
    if (!map.table_rows) [[likely]]
      return request;
    const auto row = static_cast<std::uint32_t>(map.table_rows[request]);
    return static_cast<std::int32_t>(min(row, static_cast<std::uint32_t>(map.num_table_rows)));
  }

  const PageMap& map_;
  const std::int32_t* table_;
  int request_;
};

/// The rows of one KV head in a paged tensor.
template <typename Stored>
class PagedRows {
 public:
  __device__ PagedRows(const PagedTensor<Stored>& tensor, int kv_head)
      : tensor_(tensor), head_(tensor.data + kv_head * tensor.head_stride) {}

  __device__ void stay_in_registers() { head_ = in_register(head_); }

  /// Of a slot that has a page.
  __device__ const Stored* row(RowSlot slot) const {
    const Stored* const base = slot.page < tensor_.near_pages ? head_ : tensor_.far_data;
    return base + (slot.page * tensor_.page_stride + slot.offset * tensor_.token_stride);
  }

 private:
  const PagedTensor<Stored>& tensor_;
  const Stored* head_;
};

/// Keys and values of one request and KV head.
template <typename Stored>
struct KvRows {
  RequestPages pages;
  PagedRows<Stored> keys;
  PagedRows<Stored> values;

  __device__ KvRows(const KvTensors<Stored>& kv, int request, int kv_head)
      : pages(kv.map, request, kv_head), keys(kv.k, kv_head), values(kv.v, kv_head) {}
};

/// The landmarks of one request and KV head, by number.
template <typename Stored>
struct LandmarkRows {
  RequestPages pages;
  PagedRows<Stored> hi;
  std::int64_t lo_offset;

  __device__ LandmarkRows(const LandmarkTensor<Stored>& landmarks, int request, int kv_head)
      : pages(landmarks.map, request, kv_head),
        hi(landmarks.hi, kv_head),
        lo_offset(landmarks.lo_offset) {}

  /// The row of hi, lo_offset before that of lo; null: it has no page.
  __device__ const Stored* find(std::int32_t number) const {
    const RowSlot slot = pages.slot(number);
    return slot.page < 0 ? nullptr : hi.row(slot);
  }
};

}  // namespace hip_attn::cuda
