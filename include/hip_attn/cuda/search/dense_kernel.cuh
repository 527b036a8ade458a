/// The search of prefill for configurations of landmark and every-key stages with softmax sums, on
/// compute capability 9.0. A thread block, or a cluster where there are few units, takes a unit
/// (selection row, KV head) through its stages: each is a dense scan by the block's warpgroups
/// (dense_scan.cuh), sums over rows (dense_masses.cuh), and a select. Two blocks share a
/// multiprocessor, so that one selects while the other multiplies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/search/dense_masses.cuh"
#include "hip_attn/cuda/search/dense_scan.cuh"
#include "hip_attn/cuda/search/kernel.cuh"

namespace hip_attn::cuda {

/// Shared memory of one thread block, beside what select needs.
template <int kHeadDim>
struct DenseLayout {
  static constexpr int kWarpgroups = kSearchThreads / 128;
  using Tile = sm90::SwizzledTile<kDenseRows, kHeadDim>;
  static constexpr int kRingBytes = kWarpgroups * kDenseSlots * Tile::kBytes;
  /// Pooled queries pass through the ring's first tile, scores lie in it after a scan.
  static constexpr std::int64_t kMostScores = kRingBytes / static_cast<int>(sizeof(float));
  static constexpr std::uint32_t kAlignment = 1024;  ///< of swizzled tiles
  static constexpr int kPresentBytes = kWarpgroups * kDenseSlots * 4 * 2;

  /// With what aligns the ring, and behind it: normalisers of the rows, what is present in tiles,
  /// two lists of chunks.
  __host__ __device__ static std::size_t bytes(std::int64_t rows, std::int64_t list_length) {
    return kAlignment + kRingBytes + padded(rows) * sizeof(float) + kPresentBytes +
           2 * static_cast<std::size_t>(list_length) * sizeof(std::int32_t);
  }
  __host__ __device__ static std::int64_t padded(std::int64_t rows) {
    return (rows + kDenseRows - 1) / kDenseRows * kDenseRows;
  }
};

template <typename Traits>
class DenseUnit {
 public:
  using Stored = StoredOf<Traits>;
  using Params = PrefillParams<Stored>;
  using Team = SearchCluster;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Layout = DenseLayout<kHeadDim>;
  using Tile = typename Layout::Tile;

  /// memory: of the layout. masses: in the workspace, of the team.
  __device__ DenseUnit(const Params& params, std::int32_t selection_row, int kv_head,
                       const QueryBlock& block, SelectStorage<kSearchThreads>& storage,
                       std::byte* memory, std::byte* masses)
      : params_(params),
        row_(selection_row),
        kv_head_(kv_head),
        block_(block),
        storage_(storage),
        ring_(memory),
        normalisers_(reinterpret_cast<float*>(memory + Layout::kRingBytes)),
        masses_(masses),
        w0_(params.search.window_start(block.p0)) {
    std::byte* const behind =
        reinterpret_cast<std::byte*>(normalisers_ + Layout::padded(params.max_rows));
    present_ = reinterpret_cast<std::uint16_t*>(behind);
    lists_[0] = reinterpret_cast<std::int32_t*>(behind + Layout::kPresentBytes);
    lists_[1] = lists_[0] + params.list_length;
  }

  __device__ void run() {
    const std::int32_t candidates = w0_ - params_.search.sink;
    std::int32_t count = 0;
    int size_shift = params_.search.block_shift;
#pragma unroll 1
    for (int s = 0; s < params_.search.num_stages; ++s) {
      const int shift = params_.search.chunk_shift(s, candidates);
      const ChunkList chunks = s == 0 ? ChunkList::whole(params_.search.sink, w0_, shift)
                                      : ChunkList::cut(lists_[0], count, size_shift, shift, w0_);
      const std::int32_t keep = params_.search.kept_chunks(s, shift);
      count = min(keep, chunks.count);
      if (chunks.count > keep) {
        score(s, chunks);
        select_chunks(
            [&](std::int32_t i) { return scores()[i]; }, chunks.count, keep, storage_,
            [&](std::int32_t rank, std::int32_t i) { lists_[1][rank] = chunks.start(i); });
      } else {  // nothing can be dropped and nothing is read
#pragma unroll 1
        for (std::int32_t i = thread(); i < chunks.count; i += kSearchThreads) {
          lists_[1][i] = chunks.start(i);
        }
      }
      __syncthreads();
      std::int32_t* const survivors = lists_[1];
      lists_[1] = lists_[0];
      lists_[0] = survivors;
      size_shift = shift;
    }
    if (Team::rank() != 0) return;
    const ChunkList blocks =
        ChunkList::cut(lists_[0], count, size_shift, params_.search.block_shift, w0_);
    const auto& out = params_.selection;
    std::int32_t* const blocks_out =
        out.blocks + row_ * out.blocks_row_stride + kv_head_ * out.blocks_head_stride;
#pragma unroll 1
    for (std::int32_t i = thread(); i < blocks.count; i += kSearchThreads) {
      blocks_out[i] = blocks.start(i) >> params_.search.block_shift;
    }
    if (thread() == 0) write_header(params_, row_, kv_head_, blocks.count, w0_);
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int warpgroup() { return thread() / 128; }

  __device__ float* scores() const { return reinterpret_cast<float*>(ring_); }

  /// Leaves the scores of all chunks of stage s in every block of the team.
  __device__ void score(int s, const ChunkList& chunks) {
    const StagePlan& stage = params_.search.stages[s];
    if (stage.rule == ScanRule::kLandmark) {
      const LandmarkSource<Stored> source(params_.landmarks[s], block_.request, kv_head_, chunks);
      score_by(s, chunks, source);
    } else {
      const KeySource<Stored> source(params_.tensors.kv, block_.request, kv_head_, chunks, w0_);
      score_by(s, chunks, source);
    }
    count_reads(s, chunks);
  }

  template <typename Source>
  __device__ void score_by(int s, const ChunkList& chunks, const Source& source) {
    const int stride = params_.search.stages[s].query_stride;
    const PooledQueries<Traits, kSearchThreads, WgmmaQueries<kHeadDim>> pooled(params_, block_,
                                                                               kv_head_, stride);
    const int per_step = 1 << source.step_shift();
    const DenseMasses masses(masses_, pooled.padded_rows(), chunks.count,
                             (chunks.count + per_step - 1) / per_step);
    const std::uint32_t ring = shared_address(ring_);
    const int row_tiles = pooled.padded_rows() / kDenseRows;
#pragma unroll 1
    for (int tile = 0; tile < row_tiles; ++tile) {
      if (row_tiles > 1 || pooled_by_ != stride) {
        __syncthreads();  // nobody needs what lies in the ring
        pooled.write_tile(reinterpret_cast<std::uint32_t*>(ring_), tile * kDenseRows);
        __syncthreads();
        queries_.load(ring);
        __syncthreads();
        pooled_by_ = row_tiles > 1 ? 0 : stride;
      }
      DenseScan<Traits, Source> scan(source, masses, params_.logits, chunks.count, tile,
                                     fallback_row(),
                                     ring + warpgroup() * kDenseSlots * Tile::kBytes,
                                     present_ + warpgroup() * kDenseSlots * 4);
      scan.run(queries_, Team::rank() * Layout::kWarpgroups + warpgroup(),
               Team::size() * Layout::kWarpgroups);
    }
    Team::sync();  // all masses are there
    merge_dense_states<kSearchThreads>(masses, pooled.rows(), chunks.count, normalisers_);
    __syncthreads();
    constexpr int kWarps = kSearchThreads / 32;
    const auto put = [&](std::int32_t chunk, float value) { Team::put(scores() + chunk, value); };
    const auto score_steps = [&]<int kGroups>() {
      score_dense_steps<kGroups>(masses, normalisers_, chunks.count, per_step,
                                 Team::rank() * kWarps + thread() / 32, Team::size() * kWarps, put);
    };
    if constexpr (Source::kIsLandmarks) {
      score_steps.template operator()<kLandmarksPerStep / 4>();
    } else {
      if (per_step == 8) {
        score_steps.template operator()<2>();
      } else {
        score_steps.template operator()<1>();
      }
    }
    Team::sync();
  }

  /// A query row: it exists, and nobody looks at what is read of it.
  __device__ const Stored* fallback_row() const {
    const auto& q = params_.tensors.q;
    return static_cast<const Stored*>(q.data) + block_.first_row * q.row_stride;
  }

  __device__ void count_reads(int s, const ChunkList& chunks) const {
    if (!params_.counters || thread() != 0 || Team::rank() != 0) return;
    std::int32_t reads = chunks.count;
    if (params_.search.stages[s].rule == ScanRule::kEveryKey) {
      const std::int32_t last = chunks.start(chunks.count - 1);
      reads = ((chunks.count - 1) << chunks.chunk_shift) + min(chunks.chunk_size(), w0_ - last);
    }
    atomicAdd(params_.counters + s, static_cast<unsigned long long>(reads));
  }

  const Params& params_;
  std::int32_t row_;
  int kv_head_;
  const QueryBlock& block_;
  SelectStorage<kSearchThreads>& storage_;
  std::byte* ring_;
  float* normalisers_;
  std::uint16_t* present_;
  std::int32_t* lists_[2];  ///< first keys of chunks: the survivors, and those being made
  std::byte* masses_;
  std::int32_t w0_;
  int pooled_by_ = 0;  ///< what queries_ are pooled by; 0: nothing
  DenseQueries<kHeadDim> queries_;
};

/// As many teams as have memory in the workspace take the units, in the order of search_units().
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    dense_search_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
#if HIP_ATTN_SM90A
  extern __shared__ __align__(128) std::byte shared_memory[];
  __shared__ SelectStorage<kSearchThreads> storage;
  using Team = SearchCluster;
  constexpr std::uint32_t kAlignment = DenseLayout<Traits::kHeadDim>::kAlignment;
  std::byte* const memory =
      shared_memory + (kAlignment - shared_address(shared_memory) % kAlignment) % kAlignment;
  const std::int64_t team = blockIdx.x / Team::size();
  const std::int64_t teams = gridDim.x / Team::size();
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
#pragma unroll 1
  for (std::int64_t unit = team; unit < units; unit += teams) {
    const UnitPlace place = place_of_unit(params, unit);
    if (!is_searched<Team>(params, place)) continue;
    __syncthreads();  // the unit before is done with the memory
    DenseUnit<Traits>(params, place.selection_row, place.kv_head, place.block, storage, memory,
                      params.search_memory + team * params.search_bytes)
        .run();
  }
#endif
}

/// What a stage leaves in the workspace of a team at most.
inline std::size_t dense_mass_bytes(const SearchPlan& plan, const ScanSize* scans) {
  std::size_t most = 0;
  for (int s = 0; s < plan.num_stages; ++s) {
    const std::int64_t per_step = plan.stages[s].rule == ScanRule::kLandmark
                                      ? kLandmarksPerStep
                                      : kDenseRows >> plan.stages[s].chunk_shift;
    const std::int64_t rows = (scans[s].rows + kDenseRows - 1) / kDenseRows * kDenseRows;
    const std::size_t bytes =
        DenseMasses::bytes(rows, scans[s].chunks, (scans[s].chunks + per_step - 1) / per_step);
    most = bytes > most ? bytes : most;
  }
  return (most + 255) / 256 * 256;
}

/// The kernel takes these configurations.
inline bool is_dense_search(const SearchPlan& plan) {
  for (int s = 0; s < plan.num_stages; ++s) {
    const StagePlan& stage = plan.stages[s];
    const bool is_landmark = stage.rule == ScanRule::kLandmark;
    // Every key of a first stage's chunks, which may double, is the other kernels'.
    const bool is_keys = stage.rule == ScanRule::kEveryKey && s > 0 && stage.chunk_shift >= 3 &&
                         stage.chunk_shift <= 6;
    if (stage.reduction != Reduction::kSoftmaxSum || !(is_landmark || is_keys)) return false;
  }
  return plan.num_stages > 0;
}

}  // namespace hip_attn::cuda
