/// The search of prefill for configurations of landmark and every-key stages with softmax sums, on
/// compute capability 9.0. Each stage is a dense scan by the warpgroups of a thread block, or of a
/// cluster where there are few units (dense_scan.cuh), and sums over rows (dense_masses.cuh). Two
/// blocks share a multiprocessor up to head dim 128, so that one selects while the other
/// multiplies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/search/dense_masses.cuh"
#include "hip_attn/cuda/search/dense_scan.cuh"
#include "hip_attn/cuda/search/kernel.cuh"

namespace hip_attn::cuda {

/// What all threads of a block know of the stage at work. They read it where they need it: in
/// registers it would spill, and local memory takes 140 cycles where this takes 30 (H200).
struct DenseStage {
  DenseNotes notes[kSearchThreads / 128];  ///< of each warpgroup
  ChunkList chunks;
  std::int32_t end;  ///< of the keys of the last chunk
  DenseMassLayout layout;
};

/// Shared memory of one thread block, beside what select needs.
template <int kHeadDim>
struct DenseLayout {
  using Tile = sm90::SwizzledTile<kDenseRows, kHeadDim>;
  static constexpr std::uint32_t kAlignment = 1024;  ///< of swizzled tiles
  static constexpr int kWarpgroups = kSearchThreads / 128;
  static constexpr int kRingBytes = kWarpgroups * kDenseSlots * Tile::kBytes;
  static constexpr int kStageBytes = static_cast<int>(sizeof(DenseStage));
  /// Scores lie in the ring once a scan has ended.
  static constexpr std::int64_t kMostScores = kRingBytes / static_cast<int>(sizeof(float));

  HIP_ATTN_HOST_DEVICE static std::int64_t padded(std::int64_t rows) {
    return (rows + kDenseRows - 1) / kDenseRows * kDenseRows;
  }
};

/// Scores of stages of a dense search, as MaximumStages has those of others.
template <typename Traits>
class DenseStages {
 public:
  using Stored = StoredOf<Traits>;
  using Team = SearchCluster;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Layout = DenseLayout<kHeadDim>;

  /// memory: starts at a multiple of Layout::kAlignment.
  __device__ DenseStages(const SearchWork<Traits>& work, std::byte* memory)
      : ring_(memory),
        stage_(*reinterpret_cast<DenseStage*>(memory + Layout::kRingBytes)),
        normalisers_(reinterpret_cast<float*>(memory + normalisers_at(work.params.list_length))) {
    lists_[0] = reinterpret_cast<std::int32_t*>(memory + Layout::kRingBytes + Layout::kStageBytes);
    lists_[1] = lists_[0] + work.params.list_length;
  }

  /// For so many pooled rows at most.
  static std::size_t bytes(std::int64_t rows, std::int64_t list_length) {
    return Layout::kAlignment + normalisers_at(list_length) +
           static_cast<std::size_t>(Layout::padded(rows)) * sizeof(float);
  }

  __device__ std::int32_t* (&lists())[2] { return lists_; }
  __device__ float* scores() const { return reinterpret_cast<float*>(ring_); }

  /// Leaves the scores of all chunks of stage s in every block of the team.
  __device__ void scan(const SearchWork<Traits>& work, int s, const ChunkList& chunks) {
    const int request = work.block.request;
    const KvTensors<Stored>& kv = work.params.tensors.kv;
    // A query row: it exists, and nobody looks at what is read of it. Not that of `work`, which
    // would take registers in the scan.
    const auto* const fallback = static_cast<const Stored*>(work.params.tensors.q.data);
    if (thread() == 0) {
      stage_.chunks = chunks;
      stage_.end = work.w0;
    }
    if (work.params.search.stages[s].rule == ScanRule::kLandmark) {
      scan(work, s, chunks,
           LandmarkSource<Stored>(work.params.landmarks[s], request, work.kv_head, stage_.chunks,
                                  fallback));
      return count(work, s, chunks.count);
    }
    if (KeyGroupSource<Stored>::takes(kv.map)) [[likely]] {
      scan(work, s, chunks,
           KeyGroupSource<Stored>(kv, request, work.kv_head, stage_.chunks, stage_.end));
    } else {
      scan(work, s, chunks,
           KeySource<Stored>(kv, request, work.kv_head, stage_.chunks, stage_.end, fallback));
    }
    const std::int32_t last = chunks.start(chunks.count - 1);
    count(work, s,
          ((chunks.count - 1) << chunks.chunk_shift) + min(chunks.chunk_size(), work.w0 - last));
  }

 private:
  using Tile = typename Layout::Tile;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  HIP_ATTN_HOST_DEVICE static std::size_t normalisers_at(std::int64_t list_length) {
    const std::size_t lists = 2 * static_cast<std::size_t>(list_length) * sizeof(std::int32_t);
    return Layout::kRingBytes + Layout::kStageBytes + (lists + 15) / 16 * 16;
  }

  template <typename Source>
  __device__ void scan(const SearchWork<Traits>& work, int s, const ChunkList& chunks,
                       const Source& source) {
    const PooledQueries<Traits, kSearchThreads, WgmmaQueries<kHeadDim>> queries(
        work.params, work.block, work.kv_head, work.params.search.stages[s].query_stride);
    if (thread() == 0) {
      const int per_step = 1 << source.step_shift();
      stage_.layout = DenseMassLayout::make(queries.padded_rows(), chunks.count,
                                            (chunks.count + per_step - 1) / per_step);
    }
    __syncthreads();
    const DenseMasses masses{
        work.params.search_memory + blockIdx.x / Team::size() * work.params.search_bytes,
        stage_.layout};
    const int warpgroup = uniform(thread() / 128);  // so that descriptors of products are, too
#pragma unroll 1
    for (int tile = 0; tile < queries.padded_rows() / kDenseRows; ++tile) {
      pool(work, s, queries, tile);
      DenseScan<Traits, Source> scan(
          source, masses, work.params.logits, chunks.count, tile, warpgroup,
          shared_address(ring_) + warpgroup * kDenseSlots * Tile::kBytes, stage_.notes[warpgroup]);
      scan.run(queries_, Team::rank() * Layout::kWarpgroups + warpgroup,
               Team::size() * Layout::kWarpgroups);
    }
    Team::sync();  // all masses are there, and nobody needs what lies in the rings
    merge_dense_states<kSearchThreads>(masses, queries.rows(), chunks.count, normalisers_);
    __syncthreads();
    score(masses, chunks.count, source.step_shift());
    Team::sync();
  }

  /// Puts a tile of pooled queries into registers, unless it is there. It passes through the ring.
  template <typename Queries>
  __device__ void pool(const SearchWork<Traits>& work, int s, const Queries& queries, int tile) {
    const int stride = work.params.search.stages[s].query_stride;
    const bool is_only = queries.padded_rows() == kDenseRows;
    if (is_only && pooled_by_ == stride) return;
    __syncthreads();  // nobody needs what lies in the ring
    queries.write_tile(reinterpret_cast<std::uint32_t*>(ring_), tile * kDenseRows);
    __syncthreads();
    queries_.load(shared_address(ring_));
    __syncthreads();
    pooled_by_ = is_only ? stride : 0;
  }

  __device__ void score(const DenseMasses& masses, std::int32_t chunks, int step_shift) const {
    constexpr int kWarps = kSearchThreads / 32;
    score_dense_chunks(
        masses, normalisers_, chunks, step_shift, Team::rank() * kWarps + thread() / 32,
        Team::size() * kWarps,
        [&](std::int32_t chunk, float value) { Team::put(scores() + chunk, value); });
  }

  __device__ static void count(const SearchWork<Traits>& work, int s, std::int32_t reads) {
    if (!work.params.counters || thread() != 0 || Team::rank() != 0) return;
    atomicAdd(work.params.counters + s, static_cast<unsigned long long>(reads));
  }

  std::byte* ring_;  ///< tiles of all warpgroups; between scans queries or scores
  DenseStage& stage_;
  float* normalisers_;  ///< of the pooled rows
  std::int32_t* lists_[2];
  int pooled_by_ = 0;  ///< what queries_ are pooled by; 0: nothing, or one tile of several
  DenseQueries<kHeadDim> queries_;
};

/// As many teams as have memory in the workspace. Empty in a build without code for sm_90a.
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    search_dense_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
#if HIP_ATTN_SM90A
  extern __shared__ __align__(128) std::byte shared_memory[];
  __shared__ SelectStorage<kSearchThreads> storage;
  constexpr std::uint32_t kAlignment = DenseLayout<Traits::kHeadDim>::kAlignment;
  const std::uint32_t past = shared_address(shared_memory) % kAlignment;
  search_units<Traits, DenseStages<Traits>, SearchCluster>(
      params, storage, shared_memory + (kAlignment - past) % kAlignment);
#endif
}

template <typename Traits>
std::size_t dense_search_bytes(const ScanSize* scans, int num_scans, std::int64_t list_length) {
  std::int64_t rows = 0;
  for (int s = 0; s < num_scans; ++s) rows = scans[s].rows > rows ? scans[s].rows : rows;
  return DenseStages<Traits>::bytes(rows, list_length);
}

/// The kernel takes these configurations.
inline bool is_dense_search(const SearchPlan& plan) {
  for (int s = 0; s < plan.num_stages; ++s) {
    const StagePlan& stage = plan.stages[s];
    const bool is_landmark = stage.rule == ScanRule::kLandmark;
    // Every key of a first stage's chunks, which may double, is the other kernels'.
    const bool is_keys = stage.rule == ScanRule::kEveryKey && s > 0 && stage.chunk_shift >= 3 &&
                         stage.chunk_shift <= kDenseRowShift;
    if (stage.reduction != Reduction::kSoftmaxSum || !(is_landmark || is_keys)) return false;
  }
  return plan.num_stages > 0;
}

/// What a stage leaves in the workspace of a team, at most.
inline std::size_t dense_mass_bytes(const SearchPlan& plan, const ScanSize* scans) {
  std::size_t most = 0;
  for (int s = 0; s < plan.num_stages; ++s) {
    const int step_shift = plan.stages[s].rule == ScanRule::kLandmark
                               ? kLandmarkStepShift
                               : kDenseRowShift - plan.stages[s].chunk_shift;
    const std::int64_t rows = DenseLayout<64>::padded(scans[s].rows);
    const std::int64_t steps = ceil_div(scans[s].chunks, std::int64_t{1} << step_shift);
    const std::size_t bytes = DenseMassLayout::make(rows, scans[s].chunks, steps).bytes;
    most = bytes > most ? bytes : most;
  }
  return (most + 255) / 256 * 256;
}

}  // namespace hip_attn::cuda
