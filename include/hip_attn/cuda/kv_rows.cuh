/// Keys and values of one request and KV head, by position.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/cuda/mma.cuh"

namespace hip_attn::cuda {

/// Tokens that the pages of one request can hold.
template <typename T>
__device__ std::int64_t capacity(const KvParams<T>& kv) {
  return std::int64_t{kv.page_size} * (kv.block_table ? kv.table_columns : 1);
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
        table_(params.block_table ? params.block_table + request * params.table_row_stride
                                  : nullptr),
        request_(request) {}

  struct Slot {
    std::int32_t page;
    std::int32_t offset;
  };

  __device__ Slot slot(std::int32_t position) const { return slot(position, page(position)); }

  /// The two halves of slot(): the page of a position, which is a read, and what follows from it.
  __device__ std::int32_t page(std::int32_t position) const {
    return table_ ? __ldg(table_ + column(position)) : request_;
  }
  __device__ Slot slot(std::int32_t position, std::int32_t page) const {
    return {page < params_.num_pages ? page : -1, position - column(position) * params_.page_size};
  }

  /// One tensor of the pages: element (slot, 0) is at base + page * page_stride + offset *
  /// token_stride.
  struct Rows {
    const T* base;
    std::int64_t page_stride;
    std::int64_t token_stride;
  };
  __device__ Rows keys() const { return {k_, params_.k.page_stride, params_.k.token_stride}; }
  __device__ Rows values() const { return {v_, params_.v.page_stride, params_.v.token_stride}; }

  __device__ const T* key(Slot slot) const {
    return k_ + (slot.page * params_.k.page_stride + slot.offset * params_.k.token_stride);
  }
  __device__ const T* value(Slot slot) const {
    return v_ + (slot.page * params_.v.page_stride + slot.offset * params_.v.token_stride);
  }

 private:
  __device__ std::int32_t column(std::int32_t position) const {
    return static_cast<std::int32_t>(
        __umulhi(2u * static_cast<std::uint32_t>(position), params_.column_factor) >>
        params_.column_shift);
  }

  const KvParams<T>& params_;
  const T* k_;
  const T* v_;
  const std::int32_t* table_;
  int request_;
};

/// The keys of one tensor-core tile of 16 rows, in registers, straight from global memory: lane
/// (g, t) = (lane / 4, lane % 4) holds 16 bytes in every 64 of rows g and g + 8. As a product sums
/// over the head dim in any order, those 8 elements may stand for columns 2t, 2t+1, 2t+8, 2t+9 of
/// two mma steps as long as the queries are permuted alike (queries.cuh).
template <typename T, int kHeadDim>
struct KeyTile {
  static constexpr int kSegments = kHeadDim / 32;
  uint4 upper[kSegments];  ///< of row g
  uint4 lower[kSegments];  ///< of row g + 8

  /// Null reads nothing and holds zeros.
  __device__ void load(const T* upper_row, const T* lower_row) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
      upper[i] = load_streaming_16(upper_row + i * 32 + t * 8, upper_row);
    }
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
      lower[i] = load_streaming_16(lower_row + i * 32 + t * 8, lower_row);
    }
  }

  /// c = keys [16] x query rows [8] of one tile in shared memory: c[0], c[1] are key g with rows
  /// 2t, 2t + 1, c[2], c[3] key g + 8.
  __device__ void multiply(const T* queries, int pitch, float (&c)[4]) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const T* row = queries + lane / 4 * pitch + lane % 4 * 8;
    float odd[4] = {};  // two chains of products: half the latency
    c[0] = c[1] = c[2] = c[3] = 0.f;
#pragma unroll
    for (int i = 0; i < kSegments; ++i) {
      const uint4 b = *reinterpret_cast<const uint4*>(row + i * 32);
      mma_16x8x16<T>(c, upper[i].x, lower[i].x, upper[i].y, lower[i].y, b.x, b.y);
      mma_16x8x16<T>(odd, upper[i].z, lower[i].z, upper[i].w, lower[i].w, b.z, b.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] += odd[i];
  }
};

}  // namespace hip_attn::cuda
