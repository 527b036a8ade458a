/// Decode as one kernel: a team of blocks takes a unit (request, KV head) through scan, select,
/// attend and combine, meeting at a barrier after each stage of the search and before the combine.
/// Why one kernel, and the time of every part: docs/decode-kernel.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/attend.cuh"
#include "hip_attn/cuda/chunk_list.cuh"
#include "hip_attn/cuda/scan.cuh"
#include "hip_attn/cuda/select.cuh"
#include "hip_attn/cuda/team.cuh"

namespace hip_attn::cuda {

/// Dynamic shared memory of a block.
template <typename T, int kHeadDim>
struct DecodeShared {
  static constexpr std::size_t kSelectBytes = sizeof(SelectStorage<kDecodeThreads>);
  static constexpr std::size_t kAttendBytes = kDecodeWarps * WarpTile<kHeadDim>::kBytes;
  static constexpr std::size_t kScratchBytes =
      kSelectBytes > kAttendBytes ? kSelectBytes : kAttendBytes;

  T* queries;              ///< [padded max_rows][kQueryPitch]
  std::int32_t* lists[2];  ///< first keys of chunks: the survivors, and those being made
  std::byte* scratch;      ///< of select, then of attend
  float* row_max;          ///< [kDecodeWarps][kRowsPerTile]
  float* row_sum;
  float* weights;  ///< [max_rows][kMaxParts]

  __host__ __device__ static std::size_t bytes(int max_rows, bool lists_in_shared) {
    return kScratchBytes + 2 * kDecodeWarps * kRowsPerTile * sizeof(float) +
           (lists_in_shared ? 2 * kSharedChunks * sizeof(std::int32_t) : 0) +
           static_cast<std::size_t>(padded_rows(max_rows)) *
               (kQueryPitch<kHeadDim> * sizeof(T) + kMaxParts * sizeof(float));
  }

  __device__ DecodeShared(std::byte* memory, int max_rows, std::int32_t* global_lists,
                          std::int32_t list_length) {
    const auto take = [&](std::size_t size) {
      std::byte* piece = memory;
      memory += size;
      return piece;
    };
    scratch = take(kScratchBytes);
    row_max = reinterpret_cast<float*>(take(kDecodeWarps * kRowsPerTile * sizeof(float)));
    row_sum = reinterpret_cast<float*>(take(kDecodeWarps * kRowsPerTile * sizeof(float)));
    for (int i = 0; i < 2; ++i) {
      lists[i] = global_lists
                     ? global_lists + i * list_length
                     : reinterpret_cast<std::int32_t*>(take(kSharedChunks * sizeof(std::int32_t)));
    }
    weights = reinterpret_cast<float*>(take(padded_rows(max_rows) * kMaxParts * sizeof(float)));
    queries = reinterpret_cast<T*>(memory);
  }
};

template <typename T, int kHeadDim, typename Team>
class DecodeUnit {
 public:
  __device__ DecodeUnit(const DecodeParams<T>& params, Team& team, int team_number, int unit,
                        std::byte* memory)
      : params_(params),
        team_(team),
        request_(unit / params.num_kv_heads),
        kv_head_(unit % params.num_kv_heads),
        kv_(params.kv, request_, kv_head_),
        shared_(memory, params.max_rows,
                params.lists
                    ? params.lists + (std::int64_t{team_number} * params.team_size + team.rank()) *
                                         2 * params.list_length
                    : nullptr,
                params.list_length),
        scores_(params.scores + std::int64_t{team_number} * 2 * params.max_chunks),
        partial_(std::int64_t{team_number} * params.team_size) {}

  __device__ void run() {
    seq_len_ = params_.seq_lens[request_];
    first_row_ = params_.cu_seqlens_q[request_];
    rows_ = params_.cu_seqlens_q[request_ + 1] - first_row_;
    p0_ = seq_len_ - rows_;
    if (rows_ == 0) return;
    if (!lengths_hold()) return fill_rows(NAN);
    if (seq_len_ == 0) return fill_rows(0.f);  // padding

    w0_ = params_.sink;
    const CacheHeader header = read_cache_header();
    if (rows_ == 1) use_queries(1);  // pooling is the identity: their latency hides the header's
    if (params_.selection_in.blocks) {
      if (!take_given_selection()) return fill_rows(NAN);
    } else if (params_.num_stages > 0) {
      if (!search(header)) return fill_rows(NAN);
    }
    write_selection();
    attend();
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  // ---- Lengths ----------------------------------------------------------------------------------

  /// What the CPU backend answers with a Status. Here the rows of the request become NaN.
  __device__ bool lengths_hold() const {
    return first_row_ >= 0 && rows_ > 0 && rows_ <= kMaxRows &&
           first_row_ + std::int64_t{rows_} <= params_.total_q && seq_len_ >= 0 &&
           seq_len_ <= params_.max_seq_len && seq_len_ <= capacity(params_.kv) &&
           (seq_len_ == 0 || rows_ <= seq_len_);
  }

  __device__ void fill_rows(float value) {
    if (team_.rank() != 0) return;
    const std::int64_t begin = max(0, first_row_);
    const std::int64_t end = min(params_.total_q, std::int64_t{first_row_} + rows_);
#pragma unroll 1
    for (std::int64_t row = begin; row < end; ++row) {
#pragma unroll 1
      for (int i = thread(); i < params_.group * kHeadDim; i += kDecodeThreads) {
        const std::int64_t head = kv_head_ * params_.group + i / kHeadDim;
        params_.out[row * params_.out_row_stride + head * params_.out_head_stride + i % kHeadDim] =
            narrow<T>(value);
        if (params_.lse && i % kHeadDim == 0) {
          params_.lse[row * params_.lse_row_stride + head] = value == 0.f ? -INFINITY : NAN;
        }
      }
    }
  }

  // ---- Selection --------------------------------------------------------------------------------

  /// W0 (docs/algorithm.md, "What a row attends to").
  __device__ std::int32_t window_start() const {
    const std::int32_t w = p0_ + 1 - params_.window;
    if (w <= params_.sink) return params_.sink;
    return params_.sink + (w - params_.sink) / params_.block_k * params_.block_k;
  }

  __device__ bool take_given_selection() {
    const auto& given = params_.selection_in;
    const std::int32_t count = given.counts[request_ * given.counts_row_stride + kv_head_];
    w0_ = given.window_start[request_ * given.window_row_stride + kv_head_];
    bool holds = count >= 0 && count <= given.max_blocks &&
                 (w0_ == params_.sink || (w0_ > params_.sink && w0_ <= p0_ + 1));
    if (!holds) return false;
    blocks_ =
        given.blocks + request_ * given.blocks_row_stride + kv_head_ * given.blocks_head_stride;
    num_blocks_ = count;
    block_scale_ = params_.block_k;
#pragma unroll 1
    for (std::int32_t i = thread(); i < count; i += kDecodeThreads) {
      const std::int64_t start = std::int64_t{blocks_[i]} * params_.block_k;
      holds &= start >= params_.sink && start + params_.block_k <= w0_;
      holds &= i == 0 || blocks_[i - 1] < blocks_[i];
    }
    return __syncthreads_and(holds);
  }

  /// What the cache holds for this unit, read before it is needed.
  struct CacheHeader {
    std::int32_t* entry = nullptr;  ///< null: no cache
    std::int32_t w0 = 0;
    std::int32_t refresh_from = 0;
    bool filled = false;
    bool slot_holds = true;
  };

  __device__ CacheHeader read_cache_header() const {
    CacheHeader header;
    if (!params_.cache.words) return header;
    const std::int64_t slot = params_.cache.slots ? params_.cache.slots[request_] : request_;
    header.slot_holds = slot >= 0 && slot < params_.cache.num_slots;
    if (!header.slot_holds) return header;
    header.entry =
        params_.cache.words + slot * params_.cache.slot_words + kv_head_ * params_.cache.head_words;
    header.filled = header.entry[0] != 0;
    header.w0 = header.entry[1];
    header.refresh_from = params_.cache.refresh_from[request_];
    return header;
  }

  /// The tree search, from the stage on that the cache says. Leaves blocks_; false when the cache
  /// holds no selection of this plan.
  __device__ bool search(const CacheHeader& header) {
    if (!header.slot_holds) return false;
    w0_ = window_start();
    std::int32_t* entry = header.entry;
    int first_stage = 0;
    std::int32_t count = 0;
    if (entry) {
      first_stage = min(max(header.refresh_from, 0), params_.num_stages);
      if (!header.filled || header.w0 > w0_) first_stage = 0;
      if (first_stage > 0) {
        w0_ = header.w0;
        if (!load_survivors(entry, first_stage - 1, count)) return false;
      }
      // Every block has read the entry before one of them writes it.
      if (first_stage < params_.num_stages) team_.sync();
    }

    const std::int32_t candidates = w0_ - params_.sink;
    std::int32_t chunk_size = stage_chunk_size(first_stage - 1, candidates);
#pragma unroll 1
    for (int s = first_stage; s < params_.num_stages; ++s) {
      const StageParams& stage = params_.stages[s];
      const std::int32_t stage_size = stage_chunk_size(s, candidates);
      const ChunkList chunks =
          s == 0 ? ChunkList{nullptr, params_.sink, (candidates + stage_size - 1) / stage_size,
                             stage_size, 0}
                 : ChunkList::cut(shared_.lists[0], count, chunk_size, stage_size, w0_);
      const std::int32_t keep = max(1, stage.keep / stage_size);
      count = min(keep, chunks.count);
      if (chunks.count > keep) {
        scan(s, chunks);
        const float* scores = scores_ + buffer_ * params_.max_chunks;
        // Written by other blocks of the team: __ldcg reads past this multiprocessor's L1.
        select_chunks(
            [&](std::int32_t i) { return __ldcg(scores + i); }, chunks.count, keep,
            select_storage(),
            [&](std::int32_t rank, std::int32_t i) { shared_.lists[1][rank] = chunks.start(i); });
        buffer_ ^= 1;
      } else {  // nothing can be dropped and no key is read
        write_down(chunks);
      }
      swap_lists();
      chunk_size = stage_size;
      if (entry && team_.rank() == 0) store_survivors(entry, s, count);
    }
    if (entry && team_.rank() == 0 && first_stage < params_.num_stages && thread() == 0) {
      entry[0] = 1;
      entry[1] = static_cast<std::int32_t>(w0_);
    }
    if (chunk_size > params_.block_k) {  // one stage whose chunk size doubled
      const ChunkList blocks =
          ChunkList::cut(shared_.lists[0], count, chunk_size, params_.block_k, w0_);
      write_down(blocks);
      swap_lists();
      count = blocks.count;
    }
    blocks_ = shared_.lists[0];
    num_blocks_ = count;
    block_scale_ = 1;
    return true;
  }

  __device__ std::int32_t stage_chunk_size(int s, std::int32_t candidates) const {
    return s <= 0 ? first_chunk_size(params_.stages[0].chunk_size, params_.max_first_chunks,
                                     candidates)
                  : params_.stages[s].chunk_size;
  }

  __device__ bool load_survivors(const std::int32_t* entry, int s, std::int32_t& count) {
    const StageParams& stage = params_.stages[s];
    const std::int32_t* words = entry + stage.cache_word;
    count = words[0];
    bool holds = count >= 0 && count <= stage.max_survivors && w0_ >= params_.sink &&
                 w0_ - params_.sink <= params_.max_candidates;
    const std::int32_t chunk_size = holds ? stage_chunk_size(s, w0_ - params_.sink) : 1;
    holds &= count <= max(1, stage.keep / chunk_size);
// The entry's whole room is read, so that the survivors need not wait for their count.
#pragma unroll 1
    for (int i = thread(); i < stage.max_survivors; i += kDecodeThreads) {
      const std::int32_t start = words[1 + i];
      const std::int32_t before = words[i];
      if (i >= count) continue;
      holds &=
          start >= params_.sink && start < w0_ && ((start - params_.sink) & (chunk_size - 1)) == 0;
      holds &= i == 0 || before < start;
      shared_.lists[0][i] = start;
    }
    return __syncthreads_and(holds);
  }

  __device__ void store_survivors(std::int32_t* entry, int s, std::int32_t count) {
    std::int32_t* stage = entry + params_.stages[s].cache_word;
    if (thread() == 0) stage[0] = static_cast<std::int32_t>(count);
#pragma unroll 1
    for (std::int32_t i = thread(); i < count; i += kDecodeThreads)
      stage[1 + i] = shared_.lists[0][i];
  }

  __device__ void write_down(const ChunkList& chunks) {
#pragma unroll 1
    for (std::int32_t i = thread(); i < chunks.count; i += kDecodeThreads) {
      shared_.lists[1][i] = chunks.start(i);
    }
  }

  /// What was written to lists[1] becomes the survivors.
  __device__ void swap_lists() {
    __syncthreads();
    std::int32_t* survivors = shared_.lists[1];
    shared_.lists[1] = shared_.lists[0];
    shared_.lists[0] = survivors;
  }

  __device__ SelectStorage<kDecodeThreads>& select_storage() {
    return *reinterpret_cast<SelectStorage<kDecodeThreads>*>(shared_.scratch);
  }

  /// Scores the chunks of stage s with the whole team; the scores are in L2 when it returns.
  __device__ void scan(int s, const ChunkList& chunks) {
    const StageParams& stage = params_.stages[s];
    const int pooled = use_queries(stage.query_stride);
    const KeyScorer<T, kHeadDim> score_keys{shared_.queries, padded_rows(pooled) / kRowsPerTile};
    const int warp = team_.rank() * kDecodeWarps + thread() / 32;
    const std::uint32_t keys_read = score_chunks(
        kv_, score_keys, stage.centre, chunks.count, chunks.chunk_size, w0_,
        [&](std::int32_t i) { return chunks.start(i); }, warp, team_.size() * kDecodeWarps,
        scores_ + buffer_ * params_.max_chunks);
    if (params_.counters) {
      const std::uint32_t of_warp =
          __reduce_add_sync(0xffffffffu, thread() % 4 == 0 ? keys_read : 0u);
      if (thread() % 32 == 0) atomicAdd(params_.counters + s, of_warp);
    }
    team_.sync();
  }

  /// Puts the queries pooled by `stride` rows into shared memory, unless they are there.
  __device__ int use_queries(int stride) {
    stride = min(stride, rows_);  // one group
    if (pooled_by_ != stride) {
      __syncthreads();
      pooled_rows_ = pool_queries<T, kHeadDim>(
          params_,
          params_.q + first_row_ * params_.q_row_stride +
              std::int64_t{kv_head_} * params_.group * params_.q_head_stride,
          rows_, stride, shared_.queries);
      __syncthreads();
      pooled_by_ = stride;
    }
    return pooled_rows_;
  }

  __device__ void write_selection() {
    const auto& out = params_.selection_out;
    if (!out.blocks || team_.rank() != 0) return;
    std::int32_t* row =
        out.blocks + request_ * out.blocks_row_stride + kv_head_ * out.blocks_head_stride;
#pragma unroll 1
    for (std::int32_t i = thread(); i < num_blocks_; i += kDecodeThreads) {
      row[i] = blocks_[i] * block_scale_ / params_.block_k;
    }
    if (thread() == 0) {
      out.counts[request_ * out.counts_row_stride + kv_head_] =
          static_cast<std::int32_t>(num_blocks_);
      out.window_start[request_ * out.window_row_stride + kv_head_] =
          static_cast<std::int32_t>(w0_);
    }
  }

  // ---- Attention --------------------------------------------------------------------------------

  __device__ void attend() {
    const std::int32_t end = p0_ + rows_;
    const AttendedKeys keys{min(params_.sink, end),     blocks_, num_blocks_, block_scale_,
                            __ffs(params_.block_k) - 1, w0_,     end};
    const std::int32_t count = keys.count();
    count_attended(keys);
    const int num_rows = use_queries(1);
    // Warps share out tiles of eight rows first, then tiles of keys.
    const int row_tiles = padded_rows(num_rows) / kRowsPerTile;
    const int warp = thread() / 32;
    const int row_tile = warp % row_tiles;
    const int key_lane = warp / row_tiles;
    const int key_lanes = kDecodeWarps / row_tiles;

    std::int32_t last_position[2];
    for (int i = 0; i < 2; ++i) {
      const int row = row_tile * kRowsPerTile + thread() % 4 * 2 + i;
      last_position[i] = static_cast<std::int32_t>(p0_ + min(row, num_rows - 1) / params_.group);
    }
    std::byte* tile_memory = shared_.scratch + warp * WarpTile<kHeadDim>::kBytes;
    WarpAttention<T, kHeadDim> attention(
        params_, kv_, shared_.queries + row_tile * kRowsPerTile * kQueryPitch<kHeadDim>,
        tile_memory);
    if (key_lane < key_lanes) {
      const std::int32_t step = std::int64_t{team_.size()} * key_lanes * kKeysPerTile;
      std::int32_t first = (std::int64_t{team_.rank()} * key_lanes + key_lane) * kKeysPerTile;
      auto place = attention.locate(keys, first, count);
#pragma unroll 1
      for (; first < count; first += step) {
        const auto next = attention.locate(keys, first + step, count);
        attention.attend(place, last_position);
        place = next;
      }
    }
    attention.store(reinterpret_cast<float*>(tile_memory), shared_.row_max + warp * kRowsPerTile,
                    shared_.row_sum + warp * kRowsPerTile);
    __syncthreads();
    combine_warps(num_rows, row_tiles, key_lanes);
  }

  /// Merges the warps of this block, then the blocks of the team, in fixed order.
  __device__ void combine_warps(int num_rows, int row_tiles, int key_lanes) {
    const std::int64_t mine = (partial_ + team_.rank()) * params_.max_rows;
    const auto warp_of = [&](int row, int part) { return row / kRowsPerTile + part * row_tiles; };
    merge_rows(num_rows, key_lanes, team_.size() == 1,
               [&](int row, int part, float& max, float& sum) {
                 const int at = warp_of(row, part) * kRowsPerTile + row % kRowsPerTile;
                 max = shared_.row_max[at];
                 sum = shared_.row_sum[at];
               });
#pragma unroll 1
    for (int i = thread(); i < num_rows * kHeadDim; i += kDecodeThreads) {
      const int row = i / kHeadDim;
      const int d = i % kHeadDim;
      const auto* out = reinterpret_cast<const float*>(
          shared_.scratch + row / kRowsPerTile * WarpTile<kHeadDim>::kBytes);
      out += row % kRowsPerTile * WarpTile<kHeadDim>::kOutPitch + d;
      const int pitch = row_tiles * WarpTile<kHeadDim>::kBytes / static_cast<int>(sizeof(float));
      const float value =
          merge_values(key_lanes, weights_of(row), [&](int part) { return out[part * pitch]; });
      if (team_.size() == 1) {
        write_element(row, d, value);
      } else {
        params_.partial_out[(mine + row) * kHeadDim + d] = value;
      }
    }
    if (team_.size() > 1) combine_blocks(num_rows);
  }

  __device__ void combine_blocks(int num_rows) {
    team_.sync();
    if (team_.rank() != 0) return;
    // Written by other blocks: __ldcg reads past this multiprocessor's L1.
    merge_rows(num_rows, team_.size(), true, [&](int row, int part, float& max, float& sum) {
      const std::int64_t at = (partial_ + part) * params_.max_rows + row;
      max = __ldcg(params_.partial_max + at);
      sum = __ldcg(params_.partial_sum + at);
    });
    const std::int64_t pitch = std::int64_t{params_.max_rows} * kHeadDim;
#pragma unroll 1
    for (int i = thread(); i < num_rows * kHeadDim; i += kDecodeThreads) {
      const float* out = params_.partial_out + partial_ * pitch + i;
      const float value = merge_values(team_.size(), weights_of(i / kHeadDim),
                                       [&](int part) { return __ldcg(out + part * pitch); });
      write_element(i / kHeadDim, i % kHeadDim, value);
    }
  }

  /// Merges `parts` states of every row and leaves their weights; those of the last merge are
  /// normalised and its lse is written. Otherwise the merged states go to the workspace.
  template <typename StateOf>
  __device__ void merge_rows(int num_rows, int parts, bool last, StateOf&& state_of) {
    const int part = thread() % kMaxParts;
#pragma unroll 1
    for (int first = 0; first < num_rows; first += kDecodeThreads / kMaxParts) {
      const int row = first + thread() / kMaxParts;
      float max = -INFINITY;
      float sum = 0.f;
      if (row < num_rows && part < parts) state_of(row, part, max, sum);
      const MergedState state(max, sum);
      if (row >= num_rows) continue;
      const float norm = !last ? 1.f : state.sum == 0.f ? 0.f : 1.f / state.sum;
      weights_of(row)[part] = state.weight * norm;
      if (part != 0) continue;
      if (!last) {
        const std::int64_t at = (partial_ + team_.rank()) * params_.max_rows + row;
        params_.partial_max[at] = state.max;
        params_.partial_sum[at] = state.sum;
      } else if (params_.lse) {
        constexpr float kLog2 = 0.693147181f;
        params_.lse[out_row(row) * params_.lse_row_stride + out_head(row)] =
            state.sum == 0.f ? -INFINITY : (state.max + log2f(state.sum)) * kLog2;
      }
    }
    __syncthreads();
  }

  /// Where the weights of the states that are merged into `row` stand.
  __device__ float* weights_of(int row) const { return shared_.weights + row * kMaxParts; }

  __device__ std::int64_t out_row(int unit_row) const {
    return first_row_ + unit_row / params_.group;
  }
  __device__ std::int64_t out_head(int unit_row) const {
    return std::int64_t{kv_head_} * params_.group + unit_row % params_.group;
  }

  __device__ void write_element(int row, int d, float value) const {
    params_
        .out[out_row(row) * params_.out_row_stride + out_head(row) * params_.out_head_stride + d] =
        narrow<T>(value);
  }

  __device__ void count_attended(const AttendedKeys& keys) const {
    if (!params_.counters || team_.rank() != 0 || thread() != 0) return;
    std::int32_t triples = 0;
#pragma unroll 1
    for (int row = 0; row < rows_; ++row) {
      AttendedKeys of_row = keys;
      of_row.end = p0_ + row + 1;
      of_row.sink_end = min(keys.sink_end, of_row.end);
      triples += of_row.count();
    }
    atomicAdd(params_.counters + params_.num_stages, static_cast<unsigned long long>(keys.count()));
    atomicAdd(params_.counters + params_.num_stages + 1, static_cast<unsigned long long>(triples));
  }

  static constexpr int kMaxRows = 8;  // kMaxDecodeRows

  const DecodeParams<T>& params_;
  Team& team_;
  int request_;
  int kv_head_;
  KvRows<T> kv_;
  DecodeShared<T, kHeadDim> shared_;
  float* scores_;         ///< [2, max_chunks] of this team, used in turn
  std::int32_t partial_;  ///< number of this team's first partial state
  std::int32_t seq_len_ = 0;
  std::int32_t first_row_ = 0;
  std::int32_t rows_ = 0;
  std::int32_t p0_ = 0;
  std::int32_t w0_ = 0;
  const std::int32_t* blocks_ =
      nullptr;  ///< selected blocks, blocks_[i] * block_scale_ the first key
  std::int32_t num_blocks_ = 0;
  std::int32_t block_scale_ = 1;
  int buffer_ = 0;
  int pooled_by_ = 0;  ///< what the queries in shared memory are pooled by; 0: none
  int pooled_rows_ = 0;
};

template <typename T, int kHeadDim, typename Team>
__global__ void __launch_bounds__(kDecodeThreads, 1)
    decode_kernel(const __grid_constant__ DecodeParams<T> params) {
  extern __shared__ __align__(128) std::byte shared_memory[];
  Team team(params.arrivals, params.team_size);
  const int team_number = team.first_unit();
  const int units = params.batch * params.num_kv_heads;
#pragma unroll 1
  for (int unit = team_number; unit < units; unit += team.num_teams()) {
    DecodeUnit<T, kHeadDim, Team>(params, team, team_number, unit, shared_memory).run();
    // The next unit writes where others may still read.
    if (unit + team.num_teams() < units) team.sync();
  }
}

}  // namespace hip_attn::cuda
