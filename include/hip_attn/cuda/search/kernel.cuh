/// The search of prefill: one thread block, or a cluster where there are few units, takes a unit
/// (selection row, KV head) through the scan and select of every stage. Scores, lists of chunks and
/// pooled queries never leave shared memory, and the blocks of a multiprocessor are at different
/// stages, so that one selects or waits for keys while another multiplies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/core/attended_keys.hpp"
#include "hip_attn/cuda/ptx/barrier.cuh"
#include "hip_attn/cuda/ptx/dependent_launch.cuh"
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
/// of the workspace. Pooled queries come last but for the scores, which begin where those of the
/// stage end.
template <typename Traits, typename Scorer>
struct SearchMemory {
  using Layout = typename Scorer::Layout;
  using Params = PrefillParams<StoredOf<Traits>>;
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
      const std::size_t scan = query_bytes(rows) + padded(scans[s].chunks * sizeof(float), 16);
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

  /// [chunks of the stage], behind so many rows of queries.
  __device__ float* scores(int padded_rows) const {
    return reinterpret_cast<float*>(queries) + query_bytes(padded_rows) / sizeof(float);
  }

 private:
  static_assert(kStagingBytes % Layout::kAlignment == 0);

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

/// What a search works on.
template <typename Traits>
struct SearchWork {
  using Stored = StoredOf<Traits>;

  const PrefillParams<Stored>& params;
  const QueryBlock& block;
  int kv_head;
  SearchKeys<Stored> keys;
  std::int32_t w0;

  __device__ SearchWork(const PrefillParams<Stored>& params_, const QueryBlock& block_,
                        int kv_head_)
      : params(params_),
        block(block_),
        kv_head(kv_head_),
        keys(params.tensors.kv, block.request, kv_head, fallback_row(params, block)),
        w0(params.search.window_start(block.p0)) {}

  /// Adds up what the quads of a stage have read, as scans return it.
  __device__ void count(int s, std::uint32_t keys_read) const {
    if (!params.counters) return;
    const std::uint32_t of_warp =
        __reduce_add_sync(0xffffffffu, threadIdx.x % 4 == 0 ? keys_read : 0u);
    if (threadIdx.x % 32 == 0) atomicAdd(params.counters + s, of_warp);
  }

 private:
  /// A query row: it exists, and nobody looks at what is read of it.
  __device__ static const Stored* fallback_row(const PrefillParams<Stored>& params,
                                               const QueryBlock& block) {
    const auto& q = params.tensors.q;
    return static_cast<const Stored*>(q.data) + block.first_query(q);
  }
};

/// The pooled queries of a search's stages. The rows are written again where a stage pools in
/// another way than the stage before.
template <typename Traits, typename Scorer>
class StageRows {
 public:
  /// Called by the whole block when nobody reads the last stage's any more.
  __device__ void pool(const SearchWork<Traits>& work, int stride, std::uint32_t* memory) {
    if (pooled_by_ == stride) return;
    const PooledQueries<Traits, kSearchThreads, typename Scorer::Layout> queries(
        work.params, work.block, work.kv_head, stride);
    queries.write(memory);
    rows_ = {memory, queries.rows(), queries.padded_rows()};
    pooled_by_ = stride;
    if constexpr (Scorer::kWarpsTogether > 1) sm90::fence_for_tensor_cores();
  }
  __device__ const SearchRows& rows() const { return rows_; }

 private:
  int pooled_by_ = 0;  ///< 0: there are none
  SearchRows rows_{};
};

/// Scores of stages whose rows meet in the scorer. What a SearchUnit takes for its Stages has these
/// members.
template <typename Traits, typename Scorer, typename Team>
class MaximumStages {
 public:
  __device__ MaximumStages(const SearchWork<Traits>& work, std::byte* memory)
      : memory_(memory, work.params) {}

  /// Two lists of chunks between stages.
  __device__ std::int32_t* (&lists())[2] { return memory_.lists; }

  /// Leaves the scores of all chunks of stage s where every block of the team finds them.
  __device__ void scan(const SearchWork<Traits>& work, int s, const ChunkList& chunks) {
    const StagePlan& stage = work.params.search.stages[s];
    rows_.pool(work, stage.query_stride, memory_.queries);
    Team::sync();  // the queries are there, and nobody needs the scores of the stage before
    const Scorer scorer(rows_.rows(), memory_.staging);
    const ChunkScan<Traits, Scorer, Team, kSearchThreads / 32> scan(work.keys, scorer);
    const auto start_of = [&](std::int32_t i) { return chunks.start(i); };
    work.count(s, scan.run(static_cast<int>(stage.rule), chunks.count, chunks.chunk_size(), work.w0,
                           start_of, scores()));
    Team::sync();
  }

  __device__ float* scores() const { return memory_.scores(rows_.rows().padded); }

 private:
  SearchMemory<Traits, Scorer> memory_;
  StageRows<Traits, Scorer> rows_;
};

template <typename Traits, typename Stages, typename Team>
class SearchUnit {
 public:
  using Params = PrefillParams<StoredOf<Traits>>;

  __device__ SearchUnit(const Params& params, std::int32_t selection_row, int kv_head,
                        const QueryBlock& block, SelectStorage<kSearchThreads>& storage,
                        std::byte* memory)
      : row_(selection_row),
        storage_(storage),
        work_(params, block, kv_head),
        stages_(work_, memory) {}

  __device__ void run() {
    if (!work_.params.selection_in.blocks) {
      search();
    } else if (Team::rank() == 0) {
      take_given_selection();
    }
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  /// Copies the caller's selection when its blocks ascend and lie between sink and window.
  __device__ void take_given_selection() {
    const auto& given = work_.params.selection_in;
    const std::int32_t count = given.counts[row_ * given.counts_row_stride + work_.kv_head];
    work_.w0 = given.window_start[row_ * given.window_row_stride + work_.kv_head];
    bool holds = given_count_holds(count, given.max_blocks) &&
                 given_window_holds(work_.w0, work_.params.search.sink, work_.block.p0);
    const std::int32_t* blocks =
        given.blocks + row_ * given.blocks_row_stride + work_.kv_head * given.blocks_head_stride;
    std::int32_t* copy = blocks_out();
#pragma unroll 1
    for (std::int32_t i = thread(); i < (holds ? count : 0); i += kSearchThreads) {
      const std::int32_t number = blocks[i];
      holds &=
          given_block_holds(number, i == 0 ? 0 : blocks[i - 1], i == 0, work_.params.search.sink,
                            work_.w0, work_.params.search.block_shift);
      if (copy != blocks) copy[i] = number;
    }
    write_header(__syncthreads_and(holds) ? count : -1);
  }

  /// What a search before has left.
  __device__ std::int32_t take_candidates(std::int32_t* list, int chunk_shift) const {
    const auto& from = work_.params.candidates;
    const std::int32_t count = from.counts[row_ * from.counts_row_stride + work_.kv_head];
    const std::int32_t* numbers =
        from.blocks + row_ * from.blocks_row_stride + work_.kv_head * from.blocks_head_stride;
    for (std::int32_t i = thread(); i < count; i += kSearchThreads) {
      list[i] = numbers[i] << chunk_shift;
    }
    __syncthreads();
    return count;
  }

  __device__ void search() {
    const std::int32_t candidates = work_.w0 - work_.params.search.sink;
    std::int32_t*(&lists)[2] = stages_.lists();
    std::int32_t count = 0;
    int size_shift = work_.params.search.block_shift;
    const int first_stage = work_.params.first_stage;
    if (first_stage > 0) {
      size_shift = work_.params.search.chunk_shift(first_stage - 1, candidates);
      count = take_candidates(lists[0], size_shift);
    }
#pragma unroll 1
    for (int s = first_stage; s < work_.params.search.num_stages; ++s) {
      const int shift = work_.params.search.chunk_shift(s, candidates);
      const ChunkList chunks = s == 0
                                   ? ChunkList::whole(work_.params.search.sink, work_.w0, shift)
                                   : ChunkList::cut(lists[0], count, size_shift, shift, work_.w0);
      const std::int32_t keep = work_.params.search.kept_chunks(s, shift);
      count = min(keep, chunks.count);
      const bool is_selected = chunks.count > keep;
      if (is_selected) {
        stages_.scan(work_, s, chunks);
        select_chunks([&](std::int32_t i) { return stages_.scores()[i]; }, chunks.count, keep,
                      storage_, [&](std::int32_t rank, std::int32_t i) { lists[1][rank] = i; });
        __syncthreads();
      }  // else nothing can be dropped, and no key is read
#pragma unroll 1
      for (std::int32_t i = thread(); i < count; i += kSearchThreads) {
        lists[1][i] = chunks.start(is_selected ? lists[1][i] : i);
      }
      __syncthreads();
      std::int32_t* survivors = lists[1];
      lists[1] = lists[0];
      lists[0] = survivors;
      size_shift = shift;
    }
    if (Team::rank() != 0) return;
    // One stage whose chunk size doubled leaves chunks of several blocks.
    const ChunkList blocks =
        ChunkList::cut(lists[0], count, size_shift, work_.params.search.block_shift, work_.w0);
    std::int32_t* out = blocks_out();
#pragma unroll 1
    for (std::int32_t i = thread(); i < blocks.count; i += kSearchThreads) {
      out[i] = blocks.start(i) >> work_.params.search.block_shift;
    }
    write_header(blocks.count);
  }

  __device__ std::int32_t* blocks_out() const {
    const auto& out = work_.params.selection;
    return out.blocks + row_ * out.blocks_row_stride + work_.kv_head * out.blocks_head_stride;
  }

  __device__ void write_header(std::int32_t count) const {
    if (thread() == 0) cuda::write_header(work_.params, row_, work_.kv_head, count, work_.w0);
  }

  std::int32_t row_;
  SelectStorage<kSearchThreads>& storage_;
  SearchWork<Traits> work_;
  Stages stages_;
};

/// Takes the units of a team. The KV heads whose keys share L2 come together, and the others after
/// them; within these the last rows, which have the most candidates, come first, so that the teams
/// have much the same to do.
template <typename Traits, typename Stages, typename Team>
__device__ void search_units(const PrefillParams<StoredOf<Traits>>& params,
                             SelectStorage<kSearchThreads>& storage, std::byte* memory) {
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  const std::int64_t units_at_once = std::int64_t{params.selection_rows} * params.heads_at_once;
#pragma unroll 1
  for (std::int64_t unit = blockIdx.x / Team::size(); unit < units;
       unit += gridDim.x / Team::size()) {
    const auto first_head = static_cast<int>(unit / units_at_once) * params.heads_at_once;
    const int heads = min(params.heads_at_once, params.num_kv_heads - first_head);
    const std::int64_t within = unit - std::int64_t{first_head} * params.selection_rows;
    const int kv_head = first_head + static_cast<int>(within % heads);
    const auto row = static_cast<std::int32_t>(params.selection_rows - 1 - within / heads);
    const QueryBlock block = find_query_block(params, row);
    if (block.kind != QueryBlock::Kind::kAttend) continue;
    if (block.p0 < params.dense_until) {  // every key: none selected, and the window begins at sink
      if (threadIdx.x == 0 && Team::rank() == 0) {
        write_header(params, row, kv_head, 0, params.search.sink);
      }
      continue;
    }
    __syncthreads();  // the unit before is done with the memory
    SearchUnit<Traits, Stages, Team>(params, row, kv_head, block, storage, memory).run();
  }
  wait_for_upstream_kernel();  // which may be a Companion: this one ends last
}

/// One block per unit.
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    search_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
  extern __shared__ __align__(128) std::byte shared_memory[];
  __shared__ SelectStorage<kSearchThreads> storage;
  search_units<Traits, MaximumStages<Traits, MmaScorer<Traits>, LoneBlock>, LoneBlock>(
      params, storage, shared_memory);
}

/// As many blocks as have memory in the workspace.
template <typename Traits>
__global__ void __launch_bounds__(kSearchThreads, kSearchBlocksPerMultiprocessor<Traits::kHeadDim>)
    search_in_workspace_kernel(const __grid_constant__ PrefillParams<StoredOf<Traits>> params) {
  __shared__ SelectStorage<kSearchThreads> storage;
  search_units<Traits, MaximumStages<Traits, MmaScorer<Traits>, LoneBlock>, LoneBlock>(
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
  using Stages = MaximumStages<Traits, Scorer, SearchCluster>;
  search_units<Traits, Stages, SearchCluster>(params, storage,
                                              shared_memory + (kAlignment - past) % kAlignment);
#endif
}

}  // namespace hip_attn::cuda
