/// The search of prefill for configurations with stages whose scores are made of the logits of
/// every row (softmax sums, landmarks), or that read every key. As many thread blocks as are
/// resident take unit after unit; lists, pooled queries and the logits of a stage lie in the
/// workspace of each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/search/chunk_scan.cuh"
#include "hip_attn/cuda/search/kernel.cuh"
#include "hip_attn/cuda/search/mma_scorer.cuh"
#include "hip_attn/cuda/search/row_logit_writer.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"
#include "hip_attn/cuda/search/row_scan.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// A stage that leaves logits of rows in this search.
HIP_ATTN_HOST_DEVICE constexpr bool writes_row_logits(const StagePlan& stage) {
  return stage.needs_row_logits() || stage.rule == ScanRule::kEveryKey;
}

/// Memory of one thread block in the workspace: two lists, the pooled queries and the scores of a
/// stage, and what is made of its rows.
template <typename Traits>
class RowSearchMemory {
 public:
  using Layout = typename MmaScorer<Traits>::Layout;

  __device__ RowSearchMemory(std::byte* memory, std::int64_t list_length)
      : lists{reinterpret_cast<std::int32_t*>(memory),
              reinterpret_cast<std::int32_t*>(memory) + list_length},
        queries_(memory + lists_bytes(list_length)) {}

  HIP_ATTN_HOST_DEVICE static std::int64_t lists_bytes(std::int64_t list_length) {
    return padded(2 * list_length * sizeof(std::int32_t));
  }
  /// What a stage takes behind the lists.
  static std::int64_t stage_bytes(std::int64_t rows, std::int64_t chunks) {
    const int padded_rows = Layout::padded(static_cast<int>(rows));
    return scores_end(padded_rows, chunks) + logits_bytes(padded_rows, chunks) +
           weights_bytes(rows) +
           padded(rows * num_sum_tiles(static_cast<std::int32_t>(chunks)) * sizeof(MassSum));
  }

  std::int32_t* lists[2];

  __device__ std::uint32_t* queries() const { return reinterpret_cast<std::uint32_t*>(queries_); }
  __device__ float* scores(const SearchRows& rows) const {
    return reinterpret_cast<float*>(queries_ + queries_bytes(rows.padded));
  }
  __device__ RowLogits logits(const SearchRows& rows, std::int32_t chunks) const {
    return {reinterpret_cast<float*>(queries_ + scores_end(rows.padded, chunks)), stride(chunks),
            rows.count};
  }
  /// [rows]
  __device__ RowWeight* weights(const SearchRows& rows, std::int32_t chunks) const {
    return reinterpret_cast<RowWeight*>(queries_ + scores_end(rows.padded, chunks) +
                                        logits_bytes(rows.padded, chunks));
  }
  /// [rows][tiles of chunks]
  __device__ MassSum* masses(const SearchRows& rows, std::int32_t chunks) const {
    return reinterpret_cast<MassSum*>(reinterpret_cast<std::byte*>(weights(rows, chunks)) +
                                      weights_bytes(rows.count));
  }

 private:
  HIP_ATTN_HOST_DEVICE static std::int64_t stride(std::int64_t chunks) {
    return RowLogitWriter::padded_chunks(chunks);
  }
  HIP_ATTN_HOST_DEVICE static std::int64_t queries_bytes(std::int64_t padded_rows) {
    return padded_rows * static_cast<std::int64_t>(Layout::kRowBytes);
  }
  HIP_ATTN_HOST_DEVICE static std::int64_t scores_end(std::int64_t padded_rows,
                                                      std::int64_t chunks) {
    return queries_bytes(padded_rows) + padded(chunks * sizeof(float));
  }
  HIP_ATTN_HOST_DEVICE static std::int64_t logits_bytes(std::int64_t padded_rows,
                                                        std::int64_t chunks) {
    return padded_rows * stride(chunks) * std::int64_t{sizeof(float)};
  }
  HIP_ATTN_HOST_DEVICE static std::int64_t weights_bytes(std::int64_t rows) {
    return padded(rows * sizeof(RowWeight));
  }
  /// To whole sectors of memory.
  HIP_ATTN_HOST_DEVICE static std::int64_t padded(std::int64_t bytes) {
    return (bytes + 31) / 32 * 32;
  }

  std::byte* queries_;
};

/// Scores of stages of any rule and reduction, as MaximumStages has those of some.
template <typename Traits>
class AnyStages {
 public:
  using Stored = StoredOf<Traits>;

  __device__ AnyStages(const SearchWork<Traits>& work, std::byte* memory)
      : memory_(memory, work.params.list_length) {}

  __device__ std::int32_t* (&lists())[2] { return memory_.lists; }

  /// Leaves the scores of all chunks of stage s.
  __device__ void scan(const SearchWork<Traits>& work, int s, const ChunkList& chunks) {
    const StagePlan& stage = work.params.search.stages[s];
    rows_.pool(work, stage.query_stride, memory_.queries());
    __syncthreads();  // the queries are there, and nobody needs the scores of the stage before
    const MmaScorer<Traits> scorer(rows_.rows(), nullptr);
    if (writes_row_logits(stage)) {
      work.count(s, write_row_logits(work, s, chunks, scorer));
      __syncthreads();
      reduce(stage.reduction, chunks.count);
    } else {
      const ChunkScan<Traits, MmaScorer<Traits>, LoneBlock, kWarps> scan(work.keys, scorer);
      work.count(s, run(scan, static_cast<int>(stage.rule), chunks, work.w0));
    }
    __syncthreads();
  }

  __device__ float* scores() const { return memory_.scores(rows_.rows()); }

 private:
  using Rules = typename Traits::Rules;
  static constexpr int kWarps = kSearchThreads / 32;

  template <typename Scan>
  __device__ std::uint32_t run(const Scan& scan, int rule, const ChunkList& chunks,
                               std::int32_t end) const {
    return scan.run(
        rule, chunks.count, chunks.chunk_size(), end,
        [&](std::int32_t i) { return chunks.start(i); }, scores());
  }

  /// Returns what this thread's quad read, as scans do.
  __device__ std::uint32_t write_row_logits(const SearchWork<Traits>& work, int s,
                                            const ChunkList& chunks,
                                            const MmaScorer<Traits>& scorer) const {
    const StagePlan& stage = work.params.search.stages[s];
    const RowLogitWriter writer(memory_.logits(rows_.rows(), chunks.count), work.params.logits,
                                stage.reduction);
    const RowScan<Traits, kWarps> row_scan(work.keys, scorer, writer);
    auto rule = static_cast<int>(stage.rule);
    if (rule == Rules::template index_of<LandmarkRule>()) {
      const LandmarkRows<Stored> landmarks(work.params.landmarks[s], work.block.request,
                                           work.kv_head);
      return row_scan.read_landmarks(landmarks, chunks);
    }
    if (rule == Rules::template index_of<EveryKeyRule>()) {
      if (chunks.chunk_shift > 0) return row_scan.read_every_key(chunks, work.w0);
      rule = Rules::template index_of<CentreRule>();  // which is every key of a single one
    }
    const ChunkScan<Traits, MmaScorer<Traits>, LoneBlock, kWarps, RowLogitWriter> scan(
        work.keys, scorer, writer);
    return run(scan, rule, chunks, work.w0);
  }

  __device__ void reduce(Reduction reduction, std::int32_t num_chunks) const {
    const RowLogits logits = memory_.logits(rows_.rows(), num_chunks);
    float* const scores = memory_.scores(rows_.rows());
    if (reduction == Reduction::kMaximum) {
#pragma unroll 1
      for (auto i = static_cast<std::int32_t>(threadIdx.x); i < num_chunks; i += kSearchThreads) {
        scores[i] = largest_logit(logits, i);
      }
      return;
    }
    const std::int32_t tiles = num_sum_tiles(num_chunks);
    auto* const masses = memory_.masses(rows_.rows(), num_chunks);
    auto* const weights = memory_.weights(rows_.rows(), num_chunks);
    const auto mass_at = [&](std::int32_t row, std::int32_t tile) -> MassSum& {
      return masses[std::int64_t{row} * tiles + tile];
    };
    make_tile_masses<kSearchThreads>(logits, num_chunks, 0, tiles,
                                     [&](std::int32_t row, std::int32_t tile, const MassSum& mass) {
                                       mass_at(row, tile) = mass;
                                     });
    __syncthreads();
    make_row_weights<kSearchThreads>(logits.num_rows, tiles, mass_at, weights);
    __syncthreads();
    make_softmax_sums<kSearchThreads>(logits, weights, 0, num_chunks,
                                      [&](std::int32_t i, float score) { scores[i] = score; });
  }

  RowSearchMemory<Traits> memory_;
  StageRows<Traits, MmaScorer<Traits>> rows_;
};

/// As many blocks as have memory in the workspace.
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    search_rows_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
  __shared__ SelectStorage<kSearchThreads> storage;
  search_units<Traits, AnyStages<Traits>, LoneBlock>(
      params, storage, params.search_memory + blockIdx.x * params.search_bytes);
}

template <typename Traits>
std::size_t row_search_bytes(const ScanSize* scans, int num_scans, std::int64_t list_length) {
  using Memory = RowSearchMemory<Traits>;
  std::int64_t most = 0;
  for (int s = 0; s < num_scans; ++s) {
    most = std::max(most, Memory::stage_bytes(scans[s].rows, scans[s].chunks));
  }
  return static_cast<std::size_t>(Memory::lists_bytes(list_length) + most);
}

}  // namespace hip_attn::cuda
