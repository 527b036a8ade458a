/// What the attention kernels are told of their tensors: plain structs, by value, no CUDA types.
/// Positions and counts of keys fit 32 bits; strides and whatever multiplies them are 64. Strides
/// count elements.
#pragma once

#include <cstdint>
#include <limits>

#include "hip_attn/core/page_map.hpp"

namespace hip_attn::cuda {

/// Rows of a paged cache: where row `offset` of a page lies for one KV head. Pages from near_pages
/// on lie elsewhere, with the same strides: those of a KvStore that are in host memory.
template <typename Stored>
struct PagedTensor {
  const Stored* data;
  std::int64_t page_stride;
  std::int64_t token_stride;
  std::int64_t head_stride;
  const Stored* far_data = nullptr;  ///< where page 0 would lie among the far ones
  std::int32_t near_pages = std::numeric_limits<std::int32_t>::max();
};

/// The cache that a call reads. `Stored` is the type of its elements.
template <typename Stored>
struct KvTensors {
  PagedTensor<Stored> k;
  PagedTensor<Stored> v;
  PageMap map;
};

/// The landmarks that a stage reads: rows of a cache whose token is a chunk. Landmark j of a
/// request stands at position j of the map.
template <typename Stored>
struct LandmarkTensor {
  PagedTensor<Stored> hi;
  std::int64_t lo_offset;  ///< from a row of hi to that of lo
  PageMap map;
};

/// q: rows of all requests behind one another, as in out, or a batch of requests request_stride
/// apart.
struct QueryTensor {
  const void* data;
  std::int64_t row_stride;
  std::int64_t head_stride;
  std::int64_t request_stride;  ///< 0: rows follow one another
  std::int32_t request_rows;    ///< of one request at most
  bool is_float;                ///< elements are floats; else they are of the type of the products

  /// Offset of the first row of a request, whose rows in out begin with `first_row`.
  HIP_ATTN_HOST_DEVICE std::int64_t first(int request, std::int32_t first_row) const {
    return request_stride == 0 ? first_row * row_stride : request * request_stride;
  }
};

/// out, [total_q, Hq, D].
struct OutTensor {
  void* data;
  std::int64_t row_stride;
  std::int64_t head_stride;
  bool is_float;  ///< as of q
};

/// What a call of either operator reads and writes, selections apart.
template <typename Stored>
struct AttentionTensors {
  QueryTensor q;
  OutTensor out;
  float* lse;  ///< [total_q, Hq], null: absent
  std::int64_t lse_row_stride;
  KvTensors<Stored> kv;
  const std::int32_t* seq_lens;      ///< [B]
  const std::int32_t* cu_seqlens_q;  ///< [B + 1]
  std::int32_t total_q;
  std::int32_t batch;
};

/// A logit in units of log 2 is q . k * scale_log2, or softcap_log2 * tanh(q . k * scale_log2) when
/// softcap_log2 is not 0.
struct LogitScale {
  float scale_log2;    ///< scale * log2(e), or scale / softcap with a softcap
  float softcap_log2;  ///< softcap * log2(e), 0: none
};

template <typename I>
struct SelectionParams {
  I* blocks = nullptr;  ///< null: absent
  std::int64_t blocks_row_stride;
  std::int64_t blocks_head_stride;
  std::int64_t max_blocks;
  I* counts;
  std::int64_t counts_row_stride;
  I* window_start;
  std::int64_t window_row_stride;
};

}  // namespace hip_attn::cuda
