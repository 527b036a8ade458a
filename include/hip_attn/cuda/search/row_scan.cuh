/// Scans of the rules that leave a logit of every row for every chunk, by one thread block: a
/// chunk's landmark, and every key of it. Descents and rules that read fixed keys are ChunkScan's.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"
#include "hip_attn/cuda/search/chunk_scan.cuh"
#include "hip_attn/cuda/search/mma_scorer.cuh"
#include "hip_attn/cuda/search/row_logit_writer.cuh"

namespace hip_attn::cuda {

template <typename Traits, int kWarps>
class RowScan {
  using Stored = StoredOf<Traits>;

 public:
  __device__ RowScan(const SearchKeys<Stored>& keys, const MmaScorer<Traits>& scorer,
                     const RowLogitWriter& rows)
      : keys_(keys), scorer_(scorer), rows_(rows) {}

  /// Both return what this thread's quad read (meaningful in lanes that are multiples of 4), as
  /// ChunkScan::run does. Landmarks are numbered as their chunks are from position 0.
  __device__ std::uint32_t read_landmarks(const LandmarkRows<Stored>& landmarks,
                                          const ChunkList& chunks) const {
    constexpr std::int32_t kOfQuad = 2;
    return for_each_group<8 * kOfQuad>(chunks.count, [&](std::int32_t first) {
      const std::int32_t chunk = first + quad() * kOfQuad + lane() % 4 / 2;
      const Stored* row = nullptr;
      if (chunk < chunks.count) row = landmarks.find(chunks.start(chunk) >> chunks.chunk_shift);
      const std::uint32_t absent = __ballot_sync(kAll, row == nullptr);
      if (row == nullptr) {
        row = keys_.fallback_row;
      } else if (lane() % 2 == 1) {
        row += landmarks.lo_offset;
      }
      scorer_.landmark_products(row, [&](const float(&c)[2][4], int of_row) {
        rows_.template take<1>(absent, c, of_row, first, false);
      });
      return static_cast<std::uint32_t>(
          min(max(chunks.count - first - quad() * kOfQuad, 0), kOfQuad));
    });
  }

  /// Four keys of a chunk at once in every quad. `end` bounds the last chunk.
  __device__ std::uint32_t read_every_key(const ChunkList& chunks, std::int32_t end) const {
    constexpr std::int32_t kKeys = 4;
    return for_each_group<8>(chunks.count, [&](std::int32_t first) {
      const std::int32_t chunk = first + quad();
      const std::int32_t start = chunk < chunks.count ? chunks.start(chunk) : end;
      const std::int32_t size = min(chunks.chunk_size(), end - start);
      std::int32_t own = lane() % 4;  // of the chunk's keys
      const auto position = [&] { return start + (own < size ? own : 0); };
      std::int32_t page = own < size ? keys_.pages.page(position()) : 0;
#pragma unroll 1
      for (std::int32_t i = 0; i < chunks.chunk_size(); i += kKeys) {
        bool none;
        const Stored* const row = keys_.row(own < size, position(), page, none);
        const std::uint32_t absent = __ballot_sync(kAll, none);
        own += kKeys;
        scorer_.products(
            row, [&] { page = own < size ? keys_.pages.page(position()) : 0; },
            [&](const float(&c)[4][4], int of_row) {
              rows_.take_all(absent, c, of_row, first, i > 0);
            });
      }
      return static_cast<std::uint32_t>(size);
    });
  }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int quad() { return lane() / 4; }

  /// Sums up visit(first) for the chunks [first, first + kPerWarp) of this warp.
  template <std::int32_t kPerWarp, typename Visit>
  __device__ static std::uint32_t for_each_group(std::int32_t count, Visit&& visit) {
    std::uint32_t read = 0;
#pragma unroll 1
    for (std::int32_t first = static_cast<int>(threadIdx.x) / 32 * kPerWarp; first < count;
         first += kWarps * kPerWarp) {
      read += visit(first);
    }
    return read;
  }

  const SearchKeys<Stored>& keys_;
  const MmaScorer<Traits>& scorer_;
  const RowLogitWriter& rows_;
};

}  // namespace hip_attn::cuda
