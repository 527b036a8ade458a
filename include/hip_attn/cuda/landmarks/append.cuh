/// append_kv with the landmarks that the new rows complete, in one launch.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/landmarks/make_landmarks.cuh"
#include "hip_attn/cuda/ptx/dependent_launch.cuh"
#include "hip_attn/cuda/rows/append_kv.cuh"

namespace hip_attn::cuda {

/// The rows of one append as keys: those of request b are its last.
template <typename Stored>
struct NewKeyParams {
  const Stored* k;  ///< [num_tokens, Hk, D]
  std::int64_t token_stride;
  std::int64_t head_stride;
  const std::int32_t* seq_lens;    ///< [B] new keys included
  const std::int32_t* cu_seqlens;  ///< [B + 1]
};

template <typename Stored>
struct AppendWithLandmarksParams {
  AppendKvParams append;
  LandmarkParams<Stored> landmarks;
  PagedTensor<Stored> k;  ///< of the cache
  PageMap map;
  NewKeyParams<Stored> added;
  std::int32_t landmark_blocks;  ///< the first blocks of the grid, before those that copy
};

/// Where the new rows of one request are.
struct NewRows {
  std::int32_t first_row;       ///< in k
  std::int32_t first_position;  ///< negative: none, or lengths that do not hold
  std::int32_t seq_len;
};

/// The keys of one request and KV head while other blocks copy the new ones into the cache: a new
/// key is read from where it is copied from, so that no block waits for another. It is read from
/// the cache where its row is not written to its place.
template <typename Stored>
struct AppendedKeys : CachedKeys<Stored> {
  const AppendKvParams& append;
  const Stored* head;  ///< row 0 of k
  std::int64_t token_stride;
  NewRows rows_added;

  __device__ AppendedKeys(const AppendWithLandmarksParams<Stored>& params, int request, int kv_head,
                          const NewRows& new_rows)
      : CachedKeys<Stored>(params.k, params.map, request, kv_head),
        append(params.append),
        head(params.added.k + kv_head * params.added.head_stride),
        token_stride(params.added.token_stride),
        rows_added(new_rows) {}

  __device__ const Stored* row(std::int32_t position) const {
    const RowSlot slot = this->pages.slot(position);
    if (slot.page < 0) return nullptr;
    if (position >= rows_added.first_position) {
      const std::int64_t token =
          std::int64_t{rows_added.first_row} + (position - rows_added.first_position);
      const std::int64_t place = slot.page * append.page_size + slot.offset;
      if (append.slot_mapping[token * append.slot_stride] == place) {
        return head + token * token_stride;
      }
    }
    return this->rows.row(slot);
  }
};

/// Units are spans that new rows can meet. Request b owns those from cu_seqlens(b) / span + 2 * b
/// on: n positions that begin anywhere meet at most n / span + 2 spans.
///
/// All threads of a block look for the request at once; a search by halves would be as many
/// dependent loads as the batch has bits.
template <typename Stored>
__device__ void find_unit(const AppendWithLandmarksParams<Stored>& params, std::int64_t unit,
                          int& request, std::int64_t& span_of_request) {
  const auto first_unit = [&](int b) {
    return (std::int64_t{params.added.cu_seqlens[b]} >> params.landmarks.span_shift) +
           std::int64_t{2} * b;
  };
  int requests = 0;  // that begin here or before
  for (int first = 0; first < params.landmarks.batch; first += kLandmarkThreads) {
    const int b = first + static_cast<int>(threadIdx.x);
    requests += __syncthreads_count(b < params.landmarks.batch && first_unit(b) <= unit);
  }
  request = requests - 1;
  span_of_request = request < 0 ? 0 : unit - first_unit(request);
}

template <typename Stored>
__device__ NewRows find_new_rows(const AppendWithLandmarksParams<Stored>& params, int request) {
  const std::int32_t first_row = params.added.cu_seqlens[request];
  const std::int64_t rows = std::int64_t{params.added.cu_seqlens[request + 1]} - first_row;
  const std::int32_t seq_len = params.added.seq_lens[request];
  const bool holds =
      first_row >= 0 && rows > 0 && first_row + rows <= params.append.num_tokens && rows <= seq_len;
  return {first_row, holds ? static_cast<std::int32_t>(seq_len - rows) : -1, seq_len};
}

/// What one of the first landmark_blocks of a grid does.
template <Element T, int kHeadDim, typename Access>
__device__ void complete_landmarks(const AppendWithLandmarksParams<T>& params,
                                   typename LandmarkBlock<T, kHeadDim, Access>::Shared& shared,
                                   int block_index) {
  const LandmarkParams<T>& landmarks = params.landmarks;
  const LandmarkBlock<T, kHeadDim, Access> block(landmarks, shared);
  const int heads = landmarks.num_kv_heads;
  const std::int64_t num_units =
      (params.append.num_tokens >> landmarks.span_shift) + std::int64_t{2} * landmarks.batch;
  for (std::int64_t i = block_index; i < num_units * heads; i += params.landmark_blocks) {
    int request;
    std::int64_t span_of_request;
    find_unit(params, i / heads, request, span_of_request);
    if (request < 0) continue;
    const NewRows rows = find_new_rows(params, request);
    if (rows.first_position < 0) continue;
    const std::int64_t to = min(std::int64_t{rows.seq_len}, params.map.capacity());
    const std::int64_t span =
        (std::int64_t{rows.first_position} >> landmarks.span_shift) + span_of_request;
    const SpanPositions positions(span, landmarks.span_shift, rows.first_position, to);
    if (positions.from >= positions.to) continue;
    const int kv_head = static_cast<int>(i % heads);
    block.make(AppendedKeys<T>(params, request, kv_head, rows), request, kv_head, positions);
  }
}

template <Element T, int kHeadDim, typename Access>
__global__ void __launch_bounds__(kLandmarkThreads, Access::kBlocksPerSm)
    append_kv_with_landmarks_kernel(const __grid_constant__ AppendWithLandmarksParams<T> params) {
  __shared__ typename LandmarkBlock<T, kHeadDim, Access>::Shared shared;
  wait_for_upstream_kernel();
  launch_dependents();
  const int block_index = static_cast<int>(blockIdx.x);
  if (block_index < params.landmark_blocks) {
    complete_landmarks<T, kHeadDim, Access>(params, shared, block_index);
  } else {
    append_rows_of_block<kHeadDim / kVectorElements<T>, Access::kRowsCopied>(
        params.append, block_index - params.landmark_blocks,
        static_cast<int>(gridDim.x) - params.landmark_blocks);
  }
}

}  // namespace hip_attn::cuda
