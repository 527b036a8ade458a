/// The search of prefill for configurations with stages whose scores are made of the logits of
/// every row (softmax sums, landmarks), or that read every key. As many thread blocks as are
/// resident take unit after unit; lists, pooled queries and the logits of a stage lie in the
/// workspace of each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/search/chunk_scan.cuh"
#include "hip_attn/cuda/search/kernel.cuh"
#include "hip_attn/cuda/search/mma_scorer.cuh"
#include "hip_attn/cuda/search/row_logits.cuh"
#include "hip_attn/cuda/search/row_scan.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"

namespace hip_attn::cuda {

/// A stage that leaves logits of rows in this search.
HIP_ATTN_HOST_DEVICE constexpr bool writes_row_logits(const StagePlan& stage) {
  return stage.needs_row_logits() || stage.rule == ScanRule::kEveryKey;
}

/// Memory of one thread block in the workspace: two lists, and then the arrays of a stage, which
/// begin with its pooled queries.
template <typename Traits>
class RowSearchMemory {
 public:
  using Layout = typename MmaScorer<Traits>::Layout;

  /// Offsets in bytes, from the end of the lists on.
  struct StageOffsets {
    std::int64_t scores;   ///< [chunks]
    std::int64_t weights;  ///< [rows]
    std::int64_t masses;   ///< [rows, tiles of chunks]
    std::int64_t logits;   ///< [padded rows, padded chunks]
    std::int64_t end;
  };
  HIP_ATTN_HOST_DEVICE static StageOffsets offsets(std::int64_t rows, std::int64_t chunks) {
    const std::int64_t padded_rows = Layout::padded(static_cast<int>(rows));
    const std::int64_t tiles = num_sum_tiles(static_cast<std::int32_t>(chunks));
    StageOffsets at{};
    at.scores = padded(padded_rows * static_cast<std::int64_t>(Layout::kRowBytes));
    at.weights = at.scores + padded(chunks * sizeof(float));
    at.masses = at.weights + padded(rows * sizeof(RowWeight));
    at.logits = at.masses + padded(rows * tiles * sizeof(MassSum));
    at.end = at.logits + padded_rows * stride(chunks) * std::int64_t{sizeof(float)};
    return at;
  }
  /// Of the rows of logits.
  HIP_ATTN_HOST_DEVICE static std::int64_t stride(std::int64_t chunks) {
    return RowLogitWriter::padded_chunks(chunks);
  }

  HIP_ATTN_HOST_DEVICE static std::int64_t lists_bytes(std::int64_t list_length) {
    return padded(2 * list_length * sizeof(std::int32_t));
  }

 private:
  /// To whole sectors of memory.
  HIP_ATTN_HOST_DEVICE static std::int64_t padded(std::int64_t bytes) {
    return (bytes + 31) / 32 * 32;
  }
};

/// Scores of stages of any rule and reduction, as MaximumStages has those of some.
template <typename Traits>
class AnyStages {
 public:
  using Stored = StoredOf<Traits>;

  __device__ AnyStages(const SearchWork<Traits>& work, std::byte* memory) {
    const std::int64_t length = work.params.list_length;
    lists_[0] = reinterpret_cast<std::int32_t*>(memory);
    lists_[1] = lists_[0] + length;
    memory_ = memory + Memory::lists_bytes(length);
  }

  __device__ std::int32_t* (&lists())[2] { return lists_; }

  /// Leaves the scores of all chunks of stage s.
  __device__ void scan(const SearchWork<Traits>& work, int s, const ChunkList& chunks) {
    const StagePlan& stage = work.params.search.stages[s];
    rows_.pool(work, stage.query_stride, reinterpret_cast<std::uint32_t*>(memory_));
    offsets_ = Memory::offsets(rows_.rows().count, chunks.count);
    __syncthreads();  // the queries are there, and nobody needs the scores of the stage before
    const MmaScorer<Traits> scorer(rows_.rows(), nullptr);
    if (writes_row_logits(stage)) {
      const RowLogits logits{at<float>(offsets_.logits), Memory::stride(chunks.count),
                             rows_.rows().count};
      work.count(s, write_row_logits(work, s, chunks, scorer, logits));
      __syncthreads();
      reduce(stage.reduction, logits, chunks.count);
    } else {
      const ChunkScan<Traits, MmaScorer<Traits>, LoneBlock, kWarps> scan(work.keys, scorer);
      work.count(s, run(scan, static_cast<int>(stage.rule), chunks, work.w0));
    }
    __syncthreads();
  }

  __device__ float* scores() const { return at<float>(offsets_.scores); }

 private:
  using Memory = RowSearchMemory<Traits>;
  using Rules = typename Traits::Rules;
  static constexpr int kWarps = kSearchThreads / 32;

  template <typename T>
  __device__ T* at(std::int64_t offset) const {
    return reinterpret_cast<T*>(memory_ + offset);
  }

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
                                            const MmaScorer<Traits>& scorer,
                                            const RowLogits& logits) const {
    const StagePlan& stage = work.params.search.stages[s];
    const bool sums = stage.reduction == Reduction::kSoftmaxSum;
    const LogitScale products{1.f, 0.f};  // all that a maximum compares
    const RowLogitWriter writer(logits, sums ? work.params.logits : products, sums);
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

  __device__ void reduce(Reduction reduction, const RowLogits& logits,
                         std::int32_t num_chunks) const {
    float* const scores = this->scores();
    if (reduction == Reduction::kMaximum) {
#pragma unroll 1
      for (auto i = static_cast<std::int32_t>(threadIdx.x); i < num_chunks; i += kSearchThreads) {
        scores[i] = largest_logit(logits, i);
      }
      return;
    }
    const std::int32_t tiles = num_sum_tiles(num_chunks);
    auto* const masses = at<MassSum>(offsets_.masses);
    auto* const weights = at<RowWeight>(offsets_.weights);
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

  std::int32_t* lists_[2];
  std::byte* memory_;  ///< behind the lists
  typename Memory::StageOffsets offsets_{};
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
    const std::int64_t end = Memory::offsets(scans[s].rows, scans[s].chunks).end;
    most = end > most ? end : most;
  }
  return static_cast<std::size_t>(Memory::lists_bytes(list_length) + most);
}

}  // namespace hip_attn::cuda
