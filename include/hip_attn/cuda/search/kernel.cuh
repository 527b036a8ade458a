/// The search of prefill: one thread block, or a cluster where there are few units, takes a unit
/// (selection row, KV head) through the scan and select of every stage. Scores, lists of chunks and
/// pooled queries never leave shared memory, and the blocks of a multiprocessor are at different
/// stages, so that one selects or waits for keys while another multiplies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/core/attended_keys.hpp"
#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"
#include "hip_attn/cuda/search/chunk_scan.cuh"
#include "hip_attn/cuda/search/mma_scorer.cuh"
#include "hip_attn/cuda/search/pooled_queries.cuh"
#include "hip_attn/cuda/search/rows.cuh"
#include "hip_attn/cuda/search/select.cuh"
#include "hip_attn/cuda/search/team.cuh"
#include "hip_attn/cuda/search/wgmma_scorer.cuh"
#include "hip_attn/cuda/tuning.hpp"

namespace hip_attn::cuda {

inline constexpr int kSearchThreads = SearchTuning{}.threads;
template <int kHeadDim>
inline constexpr int kSearchBlocksPerMultiprocessor =
    kernel_tuning(kHeadDim).search.blocks_per_multiprocessor;

/// Memory of one thread block: shared, or, where a configuration's chunks or query rows do not fit,
/// of the workspace. Pooled queries come last but for the rows' states and the scores, which begin
/// where those of the stage end.
template <typename Traits, typename Scorer>
struct SearchMemory {
  using Layout = typename Scorer::Layout;
  using Params = PrefillParams<StoredOf<Traits>>;
  static constexpr bool kHasRowStates = Traits::Reduction::kNeedsRowState;
  static constexpr std::size_t kStagingBytes = Scorer::kStagingBytes * (kSearchThreads / 32);

  std::byte* staging;      ///< kStagingBytes
  std::int32_t* lists[2];  ///< [list_length] first keys: the survivors, and those being made
  std::uint32_t* queries;  ///< padded to whole tiles of the layout

  /// A multiple of 16.
  __host__ __device__ static std::size_t bytes(const ScanSize* scans, int num_scans,
                                               std::int64_t list_length) {
    std::size_t most = 0;
    for (int s = 0; s < num_scans; ++s) {
      const int rows = Layout::padded(static_cast<int>(scans[s].rows));
      const std::size_t scan =
          query_bytes(rows) + state_bytes(rows) + padded(scans[s].chunks * sizeof(float), 16);
      most = scan > most ? scan : most;
    }
    return kStagingBytes + lists_bytes(list_length) + most;
  }

  /// `memory` starts at a multiple of Layout::kAlignment.
  __device__ SearchMemory(std::byte* memory, const Params& params) : staging(memory) {
    memory += kStagingBytes;
    lists[0] = reinterpret_cast<std::int32_t*>(memory);
    lists[1] = lists[0] + params.list_length;
    queries = reinterpret_cast<std::uint32_t*>(memory + lists_bytes(params.list_length));
  }

  /// [padded_rows], behind so many rows of queries; null where the reduction has no states.
  __device__ float* row_states(int padded_rows) const {
    return kHasRowStates ? behind_queries(padded_rows) : nullptr;
  }
  /// [chunks of the stage], behind the states of so many rows.
  __device__ float* scores(int padded_rows) const {
    return behind_queries(padded_rows) + state_bytes(padded_rows) / sizeof(float);
  }

 private:
  static_assert(kStagingBytes % Layout::kAlignment == 0);

  __device__ float* behind_queries(int padded_rows) const {
    return reinterpret_cast<float*>(queries) + query_bytes(padded_rows) / sizeof(float);
  }
  __host__ __device__ static std::size_t state_bytes(int padded_rows) {
    return kHasRowStates ? padded_rows * sizeof(float) : 0;
  }
  __host__ __device__ static std::size_t query_bytes(int padded_rows) {
    return static_cast<std::size_t>(padded_rows) * Layout::kRowBytes;
  }
  __host__ __device__ static std::size_t lists_bytes(std::int64_t list_length) {
    return padded(2 * list_length * sizeof(std::int32_t), Layout::kAlignment);
  }
  __host__ __device__ static std::size_t padded(std::size_t bytes, std::size_t to) {
    return (bytes + to - 1) / to * to;
  }
};

/// How many blocks a unit selects, and W0.
template <typename Stored>
__device__ void write_header(const PrefillParams<Stored>& params, std::int32_t selection_row,
                             int kv_head, std::int32_t count, std::int32_t window_start) {
  const auto& out = params.selection;
  out.counts[selection_row * out.counts_row_stride + kv_head] = count;
  out.window_start[selection_row * out.window_row_stride + kv_head] = window_start;
}

template <typename Traits, typename Scorer, typename Team>
class SearchUnit {
 public:
  using Stored = StoredOf<Traits>;
  using Params = PrefillParams<Stored>;
  using Reduction = typename Traits::Reduction;

  __device__ SearchUnit(const Params& params, std::int32_t selection_row, int kv_head,
                        const QueryBlock& block, SelectStorage<kSearchThreads>& storage,
                        std::byte* memory)
      : params_(params),
        row_(selection_row),
        kv_head_(kv_head),
        block_(block),
        keys_(params.tensors.kv, block.request, kv_head, fallback_row(params, block)),
        storage_(storage),
        memory_(memory, params),
        w0_(params.search.window_start(block.p0)) {}

  __device__ void run() {
    if (!params_.selection_in.blocks) {
      search();
    } else if (Team::rank() == 0) {
      take_given_selection();
    }
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  /// A query row: it exists, and nobody looks at what is read of it.
  __device__ static const Stored* fallback_row(const Params& params, const QueryBlock& block) {
    const auto& q = params.tensors.q;
    return static_cast<const Stored*>(q.data) + block.first_row * q.row_stride;
  }

  /// Copies the caller's selection when its blocks ascend and lie between sink and window.
  __device__ void take_given_selection() {
    const auto& given = params_.selection_in;
    const std::int32_t count = given.counts[row_ * given.counts_row_stride + kv_head_];
    w0_ = given.window_start[row_ * given.window_row_stride + kv_head_];
    bool holds = given_count_holds(count, given.max_blocks) &&
                 given_window_holds(w0_, params_.search.sink, block_.p0);
    const std::int32_t* blocks =
        given.blocks + row_ * given.blocks_row_stride + kv_head_ * given.blocks_head_stride;
    std::int32_t* copy = blocks_out();
#pragma unroll 1
    for (std::int32_t i = thread(); i < (holds ? count : 0); i += kSearchThreads) {
      const std::int32_t number = blocks[i];
      holds &= given_block_holds(number, i == 0 ? 0 : blocks[i - 1], i == 0, params_.search.sink,
                                 w0_, params_.search.block_shift);
      if (copy != blocks) copy[i] = number;
    }
    write_header(__syncthreads_and(holds) ? count : -1);
  }

  __device__ void search() {
    const std::int32_t candidates = w0_ - params_.search.sink;
    std::int32_t count = 0;
    int size_shift = params_.search.block_shift;
#pragma unroll 1
    for (int s = 0; s < params_.search.num_stages; ++s) {
      const int shift = params_.search.chunk_shift(s, candidates);
      const ChunkList chunks =
          s == 0 ? ChunkList::whole(params_.search.sink, w0_, shift)
                 : ChunkList::cut(memory_.lists[0], count, size_shift, shift, w0_);
      const std::int32_t keep = params_.search.kept_chunks(s, shift);
      count = min(keep, chunks.count);
      if (chunks.count > keep) {
        scan(s, chunks);
        select_chunks(
            [&](std::int32_t i) { return scores()[i]; }, chunks.count, keep, storage_,
            [&](std::int32_t rank, std::int32_t i) { memory_.lists[1][rank] = chunks.start(i); });
      } else {  // nothing can be dropped and no key is read
#pragma unroll 1
        for (std::int32_t i = thread(); i < chunks.count; i += kSearchThreads) {
          memory_.lists[1][i] = chunks.start(i);
        }
      }
      __syncthreads();
      std::int32_t* survivors = memory_.lists[1];
      memory_.lists[1] = memory_.lists[0];
      memory_.lists[0] = survivors;
      size_shift = shift;
    }
    if (Team::rank() != 0) return;
    // One stage whose chunk size doubled leaves chunks of several blocks.
    const ChunkList blocks =
        ChunkList::cut(memory_.lists[0], count, size_shift, params_.search.block_shift, w0_);
    std::int32_t* out = blocks_out();
#pragma unroll 1
    for (std::int32_t i = thread(); i < blocks.count; i += kSearchThreads) {
      out[i] = blocks.start(i) >> params_.search.block_shift;
    }
    write_header(blocks.count);
  }

  /// Leaves the scores of all chunks of stage s.
  __device__ void scan(int s, const ChunkList& chunks) {
    const StagePlan& stage = params_.search.stages[s];
    if (pooled_by_ != stage.query_stride) {  // nobody reads the last stage's any more
      const PooledQueries<Traits, kSearchThreads, typename Scorer::Layout> queries(
          params_, block_, kv_head_, stage.query_stride);
      queries.write(memory_.queries);
      rows_ = {memory_.queries, queries.rows(), queries.padded_rows(),
               memory_.row_states(queries.padded_rows())};
      pooled_by_ = stage.query_stride;
      if constexpr (Scorer::kWarpsTogether > 1) sm90::fence_for_tensor_cores();
    }
    if constexpr (Reduction::kNeedsRowState) {
      for (int row = thread(); row < rows_.count; row += kSearchThreads) {
        rows_.states[row] = Reduction::kNoState;
      }
    }
    Team::sync();  // the queries are there, and nobody needs the scores of the stage before
    const Reduction reduction(params_.logits.scale_log2, params_.logits.softcap_log2);
    const Scorer scorer(rows_, reduction, memory_.staging);
    const ChunkScan<Traits, Scorer, Team, kSearchThreads / 32> scan(keys_, scorer);
    const auto start_of = [&](std::int32_t i) { return chunks.start(i); };
    std::uint32_t keys_read = 0;
    if constexpr (Reduction::kNeedsRowState) {
      keys_read += scan.observe(static_cast<int>(stage.rule), chunks.count, chunks.chunk_size(),
                                w0_, start_of);
      merge_row_states();
    }
    keys_read += scan.run(static_cast<int>(stage.rule), chunks.count, chunks.chunk_size(), w0_,
                          start_of, scores());
    if (params_.counters) {
      const std::uint32_t of_warp =
          __reduce_add_sync(0xffffffffu, thread() % 4 == 0 ? keys_read : 0u);
      if (thread() % 32 == 0) atomicAdd(params_.counters + s, of_warp);
    }
    Team::sync();
  }

  /// Every block of the team gets what all of them have seen of a row.
  __device__ void merge_row_states() {
    Team::sync();
    if (Team::size() == 1) return;
    for (int first = 0; first < rows_.count; first += kSearchThreads) {
      const int row = min(first + thread(), rows_.count - 1);
      float state = Team::get(rows_.states + row, 0);
      for (int rank = 1; rank < Team::size(); ++rank) {
        state = Reduction::merge_states(state, Team::get(rows_.states + row, rank));
      }
      Team::sync();  // all have read what is overwritten
      rows_.states[row] = state;
    }
    __syncthreads();
  }

  __device__ float* scores() const { return memory_.scores(rows_.padded); }

  __device__ std::int32_t* blocks_out() const {
    const auto& out = params_.selection;
    return out.blocks + row_ * out.blocks_row_stride + kv_head_ * out.blocks_head_stride;
  }

  __device__ void write_header(std::int32_t count) const {
    if (thread() == 0) cuda::write_header(params_, row_, kv_head_, count, w0_);
  }

  const Params& params_;
  std::int32_t row_;
  int kv_head_;
  const QueryBlock& block_;
  SearchKeys<Stored> keys_;
  SelectStorage<kSearchThreads>& storage_;
  SearchMemory<Traits, Scorer> memory_;
  std::int32_t w0_;
  int pooled_by_ = 0;  ///< what memory_.queries is pooled by; 0: nothing
  SearchRows rows_{};
};

/// Where a unit lies.
struct UnitPlace {
  std::int32_t selection_row;
  int kv_head;
  QueryBlock block;
};

/// The KV head changes slowest, so that the units that run at once gather keys of one head from L2;
/// within a head the last rows, which have the most candidates, come first.
template <typename Stored>
__device__ UnitPlace place_of_unit(const PrefillParams<Stored>& params, std::int64_t unit) {
  UnitPlace place;
  place.kv_head = static_cast<int>(unit / params.selection_rows);
  place.selection_row =
      static_cast<std::int32_t>(params.selection_rows - 1 - unit % params.selection_rows);
  place.block = find_query_block(params, place.selection_row);
  return place;
}

/// Whether a unit is searched for; writes the selection of one that attends to every key.
template <typename Team, typename Stored>
__device__ bool is_searched(const PrefillParams<Stored>& params, const UnitPlace& place) {
  if (place.block.kind != QueryBlock::Kind::kAttend) return false;
  if (place.block.p0 >= params.dense_until) return true;
  // None is selected, and the window begins at the sink.
  if (threadIdx.x == 0 && Team::rank() == 0) {
    write_header(params, place.selection_row, place.kv_head, 0, params.search.sink);
  }
  return false;
}

/// Takes the units of a team.
template <typename Traits, typename Scorer, typename Team>
__device__ void search_units(const PrefillParams<StoredOf<Traits>>& params,
                             SelectStorage<kSearchThreads>& storage, std::byte* memory) {
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
#pragma unroll 1
  for (std::int64_t unit = blockIdx.x / Team::size(); unit < units;
       unit += gridDim.x / Team::size()) {
    const UnitPlace place = place_of_unit(params, unit);
    if (!is_searched<Team>(params, place)) continue;
    __syncthreads();  // the unit before is done with the memory
    SearchUnit<Traits, Scorer, Team>(params, place.selection_row, place.kv_head, place.block,
                                     storage, memory)
        .run();
  }
}

/// One block per unit.
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    search_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
  extern __shared__ __align__(128) std::byte shared_memory[];
  __shared__ SelectStorage<kSearchThreads> storage;
  search_units<Traits, MmaScorer<Traits>, LoneBlock>(params, storage, shared_memory);
}

/// As many blocks as have memory in the workspace.
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    search_in_workspace_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
  __shared__ SelectStorage<kSearchThreads> storage;
  search_units<Traits, MmaScorer<Traits>, LoneBlock>(
      params, storage, params.search_memory + blockIdx.x * params.search_bytes);
}

template <typename Traits>
std::size_t search_bytes(const ScanSize* scans, int num_scans, std::int64_t list_length) {
  return SearchMemory<Traits, MmaScorer<Traits>>::bytes(scans, num_scans, list_length);
}

template <typename Traits>
std::size_t sm90_search_bytes(const ScanSize* scans, int num_scans, std::int64_t list_length) {
  using Scorer = WgmmaScorer<Traits>;
  return Scorer::Layout::kAlignment +
         SearchMemory<Traits, Scorer>::bytes(scans, num_scans, list_length);
}

/// One block or cluster per unit, on compute capability 9.0. Empty in a build without code for it,
/// which the host sees by its having no static shared memory.
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    search_sm90_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
#if HIP_ATTN_SM90A
  extern __shared__ __align__(128) std::byte shared_memory[];
  __shared__ SelectStorage<kSearchThreads> storage;
  using Scorer = WgmmaScorer<Traits>;
  constexpr std::uint32_t kAlignment = Scorer::Layout::kAlignment;
  const std::uint32_t past = shared_address(shared_memory) % kAlignment;
  search_units<Traits, Scorer, SearchCluster>(params, storage,
                                              shared_memory + (kAlignment - past) % kAlignment);
#endif
}

}  // namespace hip_attn::cuda
