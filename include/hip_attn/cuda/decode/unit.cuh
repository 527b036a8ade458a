/// One unit of decode (request, KV head) as its blocks see it: where it lies, how long it is, its
/// query rows in shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/queries.cuh"
#include "hip_attn/cuda/decode/shared_memory.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/query_rows.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// 0 <= x < end, for an end that is not negative.
__device__ inline bool is_below(std::int32_t x, std::int32_t end) {
  return static_cast<std::uint32_t>(x) < static_cast<std::uint32_t>(end);
}

/// What the cache holds of one KV head of a slot.
__device__ inline std::int32_t* cache_entry(const CacheParams& cache, std::uint32_t slot,
                                            int kv_head) {
  return cache.words + (std::uint64_t{slot} * cache.slot_words +
                        std::uint64_t{static_cast<std::uint32_t>(kv_head)} * cache.head_words);
}

/// The blocks that a unit attends to besides sink and window.
struct UnitSelection {
  const std::int32_t* blocks = nullptr;  ///< blocks[i] << start_shift is the first key of block i
  std::int32_t count = 0;
  std::int32_t start_shift = 0;
  std::int32_t w0 = 0;
};

template <typename Traits, typename Team>
class DecodeUnit {
 public:
  using Element = typename Traits::Element;
  using Stored = StoredOf<Traits>;
  using Params = DecodeParams<Stored>;
  static constexpr int kHeadDim = Traits::kHeadDim;

  __device__ DecodeUnit(const Params& params_, Team& team_, int team_number, int request_,
                        int kv_head_, std::byte* memory)
      : params(params_),
        team(team_),
        request(request_),
        kv_head(kv_head_),
        kv(params.tensors.kv, request, kv_head),
        shared(memory, params.layout),
        team_number_(team_number),
        memory_(memory) {
    const int lane = thread() % 32;
    length_ = *(lane == 0 ? params.tensors.seq_lens + request
                          : params.tensors.cu_seqlens_q + request + (lane == 2 ? 1 : 0));
  }

  /// [2, max_chunks] of this team, used in turn.
  __device__ float* scores() const {
    return params.scores + std::int64_t{team_number_} * 2 * params.max_chunks;
  }

  /// [2, row_logits_size] of this team, used in turn.
  __device__ float* row_logits() const {
    return params.row_logits + team_number_ * 2 * params.row_logits_size;
  }
  /// [tile_masses_size] of this team.
  __device__ MassSum* tile_masses() const {
    return reinterpret_cast<MassSum*>(params.tile_masses) + team_number_ * params.tile_masses_size;
  }

  /// Two lists of params.list_length chunks.
  __device__ std::int32_t* lists() const {
    if (!params.lists) [[likely]]
      return reinterpret_cast<std::int32_t*>(memory_ + params.layout.lists);
    return params.lists +
           (std::int64_t{team_number_} * params.team_size + team.rank()) * 2 * params.list_length;
  }

  /// Lengths are read by the constructor and exist from here on. Lanes read one each and hand it
  /// round.
  __device__ void look_at_lengths() {
    seq_len = __shfl_sync(0xffffffffu, length_, 0);
    first_row = __shfl_sync(0xffffffffu, length_, 1);
    rows = __shfl_sync(0xffffffffu, length_, 2) - first_row;
  }

  __device__ static int thread() { return decode_thread(); }

  /// What the CPU backend answers with a Status. Here the rows of the request become NaN.
  __device__ bool lengths_hold() const {
    return first_row >= 0 && rows > 0 && rows <= kMaxRows &&
           rows <= params.tensors.q.request_rows && first_row <= params.tensors.total_q - rows &&
           seq_len >= 0 && seq_len <= params.max_seq_len && (seq_len == 0 || rows <= seq_len);
  }

  /// Position of the first row.
  __device__ std::int32_t p0() const { return seq_len - rows; }

  __device__ std::int32_t window_start() const { return params.search.window_start(p0()); }

  /// Starts to put the queries into shared memory, unless they are there.
  __device__ void request_queries() {
    if (pooled_by_ == 1) return;
    if (pooled_by_ != 0) await_queries();
    copy_queries<Traits, Team::kFloatRows>(params, first_query(), rows, shared.queries);
    pooled_rows_ = rows * params.group;
    pooled_by_ = 1;
    queries_arrived_ = false;
  }

  /// Waits for this thread's copies and for the others: all have the queries.
  __device__ void await_queries() {
    wait_for_copies();
    __syncthreads();
    queries_arrived_ = true;
  }

  /// Puts the queries pooled by `stride` rows into shared memory, unless they are there. Returns
  /// the number of pooled rows.
  __device__ int use_queries(int stride) {
    stride = min(stride, rows);  // one group
    if (stride == 1) {
      request_queries();
    } else if (pooled_by_ != stride) {
      if (pooled_by_ != 0) await_queries();
      pooled_rows_ = pool_queries<Traits, Team::kFloatRows>(params, first_query(), rows, stride,
                                                            shared.queries);
      pooled_by_ = stride;
      queries_arrived_ = false;
    }
    if (!queries_arrived_) await_queries();
    return pooled_rows_;
  }

  /// Rows of a unit are numbered by query row, then head of the group.
  __device__ int query_row(int unit_row) const {
    return unit_row * params.group_factor >> kGroupShift;
  }
  __device__ std::int64_t out_row(int unit_row) const { return first_row + query_row(unit_row); }
  __device__ std::int64_t out_head(int unit_row) const {
    return std::int64_t{kv_head} * params.group + unit_row - query_row(unit_row) * params.group;
  }

  /// Offset in q of the first row of the group's first head.
  __device__ std::int64_t first_query() const {
    return params.tensors.q.first(request, first_row) +
           std::int64_t{kv_head} * params.group * params.tensors.q.head_stride;
  }

  __device__ void fill_rows(float value) const {
    if (team.rank() != 0) return;
    const std::int64_t begin = max(0, first_row);
    const std::int64_t end =
        min(std::int64_t{params.tensors.total_q}, std::int64_t{first_row} + rows);
#pragma unroll 1
    for (std::int64_t row = begin; row < end; ++row) {
#pragma unroll 1
      for (int i = thread(); i < params.group * kHeadDim; i += kDecodeThreads) {
        const std::int64_t head = kv_head * params.group + i / kHeadDim;
        const auto& out = params.tensors.out;
        const std::int64_t offset = row * out.row_stride + head * out.head_stride + i % kHeadDim;
        if constexpr (Team::kFloatRows) {
          write_out<Element>(out, offset, value);
        } else {
          *elements_at<Element>(out, offset) = narrow<Element>(value);
        }
        if (params.tensors.lse && i % kHeadDim == 0) {
          params.tensors.lse[row * params.tensors.lse_row_stride + head] =
              value == 0.f ? -INFINITY : NAN;
        }
      }
    }
  }

  const Params& params;
  Team& team;
  int request;
  int kv_head;
  KvRows<Stored> kv;
  DecodeShared<Element> shared;
  std::int32_t seq_len = 0;
  std::int32_t first_row = 0;
  std::int32_t rows = 0;

 private:
  static constexpr int kMaxRows = 8;  // kMaxDecodeRows

  int team_number_;
  std::byte* memory_;
  std::int32_t length_;  ///< lane 0: seq_len, 1: first row, 2: first row of the next request
  int pooled_by_ = 0;    ///< what the queries in shared memory are pooled by; 0: none
  int pooled_rows_ = 0;
  bool queries_arrived_ = false;  ///< for all threads
};

}  // namespace hip_attn::cuda
