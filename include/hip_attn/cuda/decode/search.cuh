/// Which blocks a unit of decode attends to: given, from the cache, or by the tree search.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "hip_attn/core/cache_layout.hpp"
#include "hip_attn/cuda/decode/register_select.cuh"
#include "hip_attn/cuda/decode/scan.cuh"
#include "hip_attn/cuda/decode/softmax_scores.cuh"
#include "hip_attn/cuda/decode/tile_scan.cuh"
#include "hip_attn/cuda/decode/unchecked_keys.cuh"
#include "hip_attn/cuda/decode/unit.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"
#include "hip_attn/cuda/search/select.cuh"

namespace hip_attn::cuda {

/// Score i of a stage: `scores` are written by other blocks of the team, and read past this
/// multiprocessor's L1.
__device__ inline float score_of(const float* in_shared, const float* scores, std::int32_t i) {
  return in_shared ? in_shared[i] : __ldcg(scores + i);
}

/// The numbers of the chunks that are kept, as select_chunks hands them over. Called, and not
/// inlined, so that what mostly runs lies together.
inline __device__ __noinline__ void select_rarely(const float* in_shared, const float* scores,
                                                  std::int32_t count, std::int32_t keep,
                                                  SelectStorage<kDecodeThreads>* storage,
                                                  std::int32_t* numbers) {
  select_chunks([&](std::int32_t i) { return score_of(in_shared, scores, i); }, count, keep,
                *storage, [&](std::int32_t rank, std::int32_t i) { numbers[rank] = i; });
}

template <typename Traits, typename Team, DecodeSearchKind kSearch>
class DecodeSearch {
 public:
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Stored = StoredOf<Traits>;
  using Unit = DecodeUnit<Traits, Team>;

  /// Starts to read what the cache holds for this unit.
  __device__ explicit DecodeSearch(Unit& unit) : params_(unit.params), unit_(unit) {
    if (params_.cache.words) [[likely]]
      read_cache();
  }

  /// What the constructor has read exists from here on.
  __device__ void look_at_cache() {
    refresh_from_ = __shfl_sync(0xffffffffu, word_, 0);
    cache_state_ = __shfl_sync(0xffffffffu, word_, 1);
    cached_w0_ = __shfl_sync(0xffffffffu, word_, 2);
    cached_count_ = __shfl_sync(0xffffffffu, word_, 3);
  }

  /// The survivors of the last stage are to be used again.
  __device__ bool expects_reuse() const {
    return slot_holds_ & (refresh_from_ >= params_.search.num_stages);
  }

  /// They can be used as they lie in the cache, each still to be checked. Only where the caller's
  /// tensors and the plan allow it, and for one query row of a request whose length holds.
  __device__ bool can_reuse() const {
    const std::int32_t candidates = cached_candidates(cached_w0_, params_.search.sink);
    const std::int32_t most = max(unit_.seq_len - params_.search.window - params_.search.sink, 0);
    const std::int32_t most_blocks =
        min(params_.last_stage.max_survivors, candidates >> params_.search.block_shift);
    return expects_reuse() & (cache_state_ == kCacheSelection) &
           cached_window_holds(candidates, most, params_.search.block_shift) &
           is_below(cached_count_, most_blocks + 1);
  }

  __device__ bool slot_holds() const { return slot_holds_; }
  __device__ UnitSelection cached() const {
    return {entry_ + params_.last_stage.cache_word + 1, cached_count_, 0, cached_w0_};
  }

  /// The selection that the caller gave; false when it does not hold.
  __device__ bool take_given(UnitSelection& selection) const {
    const auto& given = params_.selection_in;
    const std::int32_t count =
        given.counts[unit_.request * given.counts_row_stride + unit_.kv_head];
    const std::int32_t w0 =
        given.window_start[unit_.request * given.window_row_stride + unit_.kv_head];
    if (!given_count_holds(count, given.max_blocks)) return false;
    if (!given_window_holds(w0, params_.search.sink, unit_.p0())) return false;
    const std::int32_t* const blocks = given.blocks + unit_.request * given.blocks_row_stride +
                                       unit_.kv_head * given.blocks_head_stride;
    bool holds = true;
#pragma unroll 1
    for (std::int32_t i = thread(); i < count; i += kDecodeThreads) {
      holds &= given_block_holds(blocks[i], i == 0 ? 0 : blocks[i - 1], i == 0, params_.search.sink,
                                 w0, params_.search.block_shift);
    }
    selection = {blocks, count, params_.search.block_shift, w0};
    return __syncthreads_and(holds);
  }

  /// The tree search, from the stage on that the cache says; false when the cache holds no
  /// selection of this plan.
  __device__ bool run(UnitSelection& selection) {
    if (!slot_holds_) return false;
    scores_ = unit_.scores();
    lists_[0] = unit_.lists();
    lists_[1] = lists_[0] + params_.list_length;
    StagesToRun stages{0, params_.search.num_stages};
    if (entry_ && entry_holds()) {
      stages = stages_to_run(refresh_from_, cache_state_, params_.search.num_stages);
    }
    set_end_stage(stages.end);
    std::int32_t count = 0;
    // A search ahead leaves the cached selection, which is looked at first.
#pragma unroll 1
    for (int s = is_ahead() ? params_.search.num_stages : stages.first; s > 0;
         s = s > stages.first ? stages.first : 0) {
      w0_ = cached_w0_;
      if (!load_survivors(s - 1, params_.search.stages[s - 1], count)) return false;
    }
    if (stages.first == 0) w0_ = unit_.window_start();
    search_from(stages.first, count);
    if (is_ahead()) {
      look_at_cache();
      selection = cached();
    } else {
      select_blocks(count, selection);
    }
    return true;
  }

 private:
  __device__ static int thread() { return decode_thread(); }

  // ---- Cache ------------------------------------------------------------------------------------

  /// Starts to read what the cache says of the whole entry and of its last stage, a word a lane.
  __device__ void read_cache() {
    const auto& cache = params_.cache;
    auto slot = static_cast<std::uint32_t>(unit_.request);
    if (cache.slots) [[unlikely]] {
      slot = static_cast<std::uint32_t>(cache.slots[unit_.request]);
      slot_holds_ = slot < cache.num_slots;
      if (!slot_holds_) return;
    }
    entry_ = cache_entry(cache, slot, unit_.kv_head);
    const int lane = thread() % 32;
    const std::int32_t* const of_entry = entry_ + (lane == 3   ? params_.last_stage.cache_word
                                                   : lane == 2 ? CacheLayout::kWindowStart
                                                               : CacheLayout::kState);
    word_ = *(lane == 0 ? cache.refresh_from + unit_.request : of_entry);
  }

  /// Puts the survivors of stage s into lists_[0]; false when they are none of this plan.
  __device__ bool load_survivors(int s, const StagePlan& stage, std::int32_t& count) {
    const std::int32_t* const words = entry_ + stage.cache_word;
    // On their way together with their number.
    ListedBlock own;
    if (thread() < stage.max_survivors) own = ListedBlock::read(words + 1, thread());
    count = words[0];
    bool holds =
        count >= 0 && count <= stage.max_survivors && params_.search.cached_window_holds(w0_);
    const int shift =
        holds ? params_.search.chunk_shift(s, w0_ - params_.search.sink) : stage.chunk_shift;
    holds &= count <= params_.search.kept_chunks(s, shift);
    const std::int32_t last = holds ? count : 0;
#pragma unroll 1
    for (int i = thread(); i < last;) {
      holds &= cached_chunk_holds(own.start, own.before, i == 0, params_.search.sink, w0_, shift);
      lists_[0][i] = own.start;
      i += kDecodeThreads;
      if (i >= last) [[likely]]
        break;
      own = ListedBlock::read(words + 1, i);
    }
    return __syncthreads_and(holds);
  }

  /// The cache holds a selection, and not one of a longer request.
  __device__ bool entry_holds() const {
    return cache_state_ != kCacheEmpty && cached_w0_ <= unit_.window_start();
  }

  /// From the last stage's survivors in lists_[0].
  __device__ void select_blocks(std::int32_t count, UnitSelection& selection) {
    const int shift =
        params_.search.chunk_shift(params_.search.num_stages - 1, w0_ - params_.search.sink);
    if (shift > params_.search.block_shift) [[unlikely]] {  // one stage whose chunk size doubled
      const ChunkList blocks =
          ChunkList::cut(lists_[0], count, shift, params_.search.block_shift, w0_);
      write_down(blocks, nullptr);
      swap_lists();
      count = blocks.count;
    }
    selection = {lists_[0], count, 0, w0_};
  }

  // ---- Stages -----------------------------------------------------------------------------------

  /// Where the search ends. Kept in a lane of word_: a register more across the search would spill.
  __device__ void set_end_stage(int end) {
    if (thread() % 32 == 4) word_ = end;
  }
  __device__ int end_stage() const { return __shfl_sync(0xffffffffu, word_, 4); }
  __device__ bool is_ahead() const { return end_stage() < params_.search.num_stages; }

  /// Runs the stages from first_stage to end_stage(), if any. Leaves the survivors in lists_[0] and
  /// their number in count; count is given the number of survivors of the stage before the first.
  __device__ void search_from(int first_stage, std::int32_t& count) {
    const std::int32_t candidates = w0_ - params_.search.sink;
    // By every block, before one of them writes it: a scan ends with a barrier of the team.
    bool entry_was_read = false;
    int size_shift = params_.search.chunk_shift(max(first_stage - 1, 0), candidates);
#pragma unroll 1
    for (int s = first_stage; s < end_stage(); ++s) {
      const StagePlan& stage = params_.search.stages[s];
      const int shift = params_.search.chunk_shift(s, candidates);
      const ChunkList chunks = s == 0 ? ChunkList::whole(params_.search.sink, w0_, shift)
                                      : ChunkList::cut(lists_[0], count, size_shift, shift, w0_);
      const std::int32_t keep = params_.search.kept_chunks(s, shift);
      count = min(keep, chunks.count);
      if (chunks.count > keep) {
        scan(s, chunks);
        select(s, chunks, keep);
      } else {  // nothing can be dropped and no key is read
        if (entry_ && !entry_was_read) unit_.team.sync();
        write_down(chunks, stored(s));
      }
      entry_was_read = true;
      if (thread() == 0 && stores()) entry_[stage.cache_word] = count;
      swap_lists();
      size_shift = shift;
    }
    if (!entry_was_read) return;
    const std::int32_t state = is_ahead() ? kCacheAhead : kCacheSelection;
    if (thread() == 0 && stores()) {
      entry_[CacheLayout::kState] = state;
      entry_[CacheLayout::kWindowStart] = w0_;
    }
  }

  /// Scores the chunks of stage s with the whole team; what the scan writes down is in L2 when it
  /// returns.
  __device__ void scan(int s, const ChunkList& chunks) {
    const StagePlan& stage = params_.search.stages[s];
    const int pooled = unit_.use_queries(stage.query_stride);
    std::uint32_t keys_read;
    if constexpr (kSearch == DecodeSearchKind::kMaxima) {
      keys_read = scan_keys(chunks, pooled, NoObserver{},
                            [&](const auto& scan, std::byte* memory, std::byte* second_memory) {
                              return scan.run(static_cast<int>(stage.rule), scores(), memory,
                                              second_memory);
                            });
    } else {
      keys_read = scan_by_rule(s, chunks, pooled);
    }
    if (params_.counters) {
      const std::uint32_t of_warp = __reduce_add_sync(0xffffffffu, keys_read);
      if (thread() % 32 == 0) atomicAdd(params_.counters + s, of_warp);
    }
    unit_.team.sync();
  }

  static constexpr int kTiles = kTileBytes<kHeadDim>;
  static constexpr int kSlotBytes = slot_bytes(kHeadDim);

  /// visit(scan, memory, second memory) in each warp for which there is room for a tile of keys.
  /// Returns the keys that this lane has counted.
  template <typename Observer, typename Visit>
  __device__ std::uint32_t scan_keys(const ChunkList& chunks, int pooled, const Observer& observer,
                                     Visit&& visit) const {
    const int warp = thread() / 32;
    const int room = params_.layout.slots * 2;  // tiles of keys
    if (warp >= room) return 0;
    const int num_warps = min(room, kDecodeWarps) * unit_.team.size();
    const DecodeScan<Traits, Observer> scan{
        unit_.kv, params_.tensors.kv.k.data, unit_.shared.queries, pooled, chunks, w0_,
        // Blocks first: few chunks are spread over all of them.
        warp * unit_.team.size() + unit_.team.rank(), num_warps, observer};
    std::byte* const memory = unit_.shared.slots + warp * kTiles;
    const bool two = warp + kDecodeWarps < room && chunks.count > num_warps * 8;
    const std::uint32_t keys_read =
        visit(scan, memory, two ? memory + kDecodeWarps * kTiles : nullptr);
    return thread() % 4 == 0 ? keys_read : 0u;
  }

  // ---- Of all kinds of search but DecodeSearchKind::kMaxima -------------------------------------

  __device__ static bool sums(const StagePlan& stage) {
    return kSearch == DecodeSearchKind::kDense || stage.reduction == Reduction::kSoftmaxSum;
  }

  /// What the scan of a stage writes down.
  __device__ StageLogits logits_of(const StagePlan& stage, const ChunkList& chunks,
                                   int pooled) const {
    if (!sums(stage)) return {{scores(), 0, 1}, false, params_.logits};
    return {{unit_.row_logits() + buffer_ * params_.row_logits_size, (chunks.count + 3) / 4 * 4,
             pooled},
            true,
            params_.logits};
  }

  __device__ std::uint32_t scan_by_rule(int s, const ChunkList& chunks, int pooled) const {
    const StagePlan& stage = params_.search.stages[s];
    const StageLogits logits = logits_of(stage, chunks, pooled);
    if constexpr (kSearch == DecodeSearchKind::kDense) {
      return stage.rule == ScanRule::kLandmark ? scan_landmarks(s, chunks, pooled, logits)
                                               : scan_every_key(chunks, pooled, logits);
    }
    return Traits::Rules::visit(static_cast<int>(stage.rule), [&]<typename Rule>() {
      if constexpr (std::is_same_v<Rule, LandmarkRule>) {
        return scan_landmarks(s, chunks, pooled, logits);
      } else if constexpr (std::is_same_v<Rule, EveryKeyRule>) {
        return scan_every_key(chunks, pooled, logits);
      } else if constexpr (Rule::kDescends) {
        return scan_keys(chunks, pooled, DescentLogits{logits, chunks.count},
                         [&](const auto& scan, std::byte* memory, std::byte* second_memory) {
                           return scan.descend(scores(), memory, second_memory);
                         });
      } else {
        return scan_tiles(FixedKeyTiles<Stored, Rule>(chunks, unit_.kv, w0_), pooled, logits);
      }
    });
  }

  __device__ std::uint32_t scan_landmarks(int s, const ChunkList& chunks, int pooled,
                                          const StageLogits& logits) const {
    return scan_tiles(
        LandmarkTiles<Stored>(chunks, params_.landmarks[s], unit_.request, unit_.kv_head), pooled,
        logits);
  }
  __device__ std::uint32_t scan_every_key(const ChunkList& chunks, int pooled,
                                          const StageLogits& logits) const {
    return scan_tiles(EveryKeyTiles<Stored>(chunks, unit_.kv, w0_), pooled, logits);
  }

  template <typename Tiles>
  __device__ std::uint32_t scan_tiles(const Tiles& tiles, int pooled,
                                      const StageLogits& logits) const {
    const int warp = thread() / 32;
    const int room = params_.layout.slots;
    if (warp >= room) return 0;
    std::byte* const slot = unit_.shared.slots + warp * kSlotBytes;
    const TileScan<Traits> scan{
        params_.tensors.kv.k.data, unit_.shared.queries, pooled, logits,
        // Blocks first: few bundles are spread over all of them.
        warp * unit_.team.size() + unit_.team.rank(), min(room, kDecodeWarps) * unit_.team.size(),
        slot, warp + kDecodeWarps < room ? slot + kDecodeWarps * kSlotBytes : nullptr};
    return scan.run(tiles);
  }

  // ---- Select -----------------------------------------------------------------------------------

  /// Every block of the team selects for itself: reading 16 KB from L2 is cheaper than a barrier.
  __device__ void select(int s, const ChunkList& chunks, std::int32_t keep) {
    const float* const scores = this->scores();
    std::int32_t* const stored = this->stored(s);
    const auto emit = [&](std::int32_t rank, std::int32_t i) {
      put(rank, chunks.start(i), stored);
    };
    if constexpr (kSearch == DecodeSearchKind::kMaxima) {
      select_from([&](auto select) { return select.run(scores, chunks.count, keep, emit); },
                  nullptr, chunks.count, keep, emit);
    } else {
      const float* const in_shared = sum_up(s, chunks);
      const auto score_at = [&](std::int32_t i) { return score_of(in_shared, scores, i); };
      select_from([&](auto select) { return select.run_at(score_at, chunks.count, keep, emit); },
                  in_shared, chunks.count, keep, emit);
    }
    buffer_ ^= 1;
  }

  /// Makes scores of a stage's row logits, where it has some. Returns them where they are in shared
  /// memory; null: they are in scores().
  __device__ const float* sum_up(int s, const ChunkList& chunks) const {
    const StagePlan& stage = params_.search.stages[s];
    if (!sums(stage)) return nullptr;
    const int pooled = unit_.use_queries(stage.query_stride);  // which are there
    return SoftmaxScores<Traits, Team>(unit_, logits_of(stage, chunks, pooled).rows, chunks.count)
        .make(scores());
  }

  /// run(select) runs a RegisterSelect. Two scores to a thread in most stages; equal or infinite
  /// scores, and very many, by the other select.
  template <typename Run, typename Emit>
  __device__ void select_from(Run&& run, const float* in_shared, std::int32_t count,
                              std::int32_t keep, Emit&& emit) {
    auto& storage = unit_.shared.register_select();
    const bool done = count <= 2 * kDecodeThreads ? run(RegisterSelect<2>(storage))
                      : count <= kRegisterScores  ? run(RegisterSelect<kSelectItems>(storage))
                                                  : false;
    if (done) [[likely]]
      return;
    __syncthreads();  // the same memory
    std::int32_t* const numbers = lists_[1];
    select_rarely(in_shared, scores(), count, keep, &unit_.shared.select(), numbers);
    __syncthreads();
#pragma unroll 1
    for (std::int32_t i = thread(); i < keep; i += kDecodeThreads) emit(i, numbers[i]);
  }

  /// Of the stage that is at work.
  __device__ float* scores() const { return scores_ + buffer_ * params_.max_chunks; }

  __device__ void write_down(const ChunkList& chunks, std::int32_t* stored) {
#pragma unroll 1
    for (std::int32_t i = thread(); i < chunks.count; i += kDecodeThreads) {
      put(i, chunks.start(i), stored);
    }
  }

  /// Survivor i of the stage that is at work.
  __device__ void put(std::int32_t i, std::int32_t start, std::int32_t* stored) const {
    lists_[1][i] = start;
    if (stored) stored[i] = start;
  }

  /// This block writes the cache's entry.
  __device__ bool stores() const { return entry_ && unit_.team.rank() == 0; }

  /// Where it puts the survivors of stage s; null: nowhere.
  __device__ std::int32_t* stored(int s) const {
    return stores() ? entry_ + params_.search.stages[s].cache_word + 1 : nullptr;
  }

  /// What was written to lists_[1] becomes the survivors.
  __device__ void swap_lists() {
    __syncthreads();
    std::int32_t* const survivors = lists_[1];
    lists_[1] = lists_[0];
    lists_[0] = survivors;
  }

  const DecodeParams<StoredOf<Traits>>& params_;
  Unit& unit_;
  int buffer_ = 0;
  float* scores_;
  std::int32_t* lists_[2];  ///< first keys of chunks: the survivors, and those being made
  std::int32_t w0_ = 0;

  std::int32_t* entry_ = nullptr;  ///< of the cache; null: no cache
  bool slot_holds_ = true;
  /// Lane 0: refresh_from, 1: state, 2: W0, 3: number of the last stage's survivors, 4:
  /// end_stage().
  std::int32_t word_ = 0;
  std::int32_t cache_state_ = kCacheEmpty;
  std::int32_t refresh_from_ = 0;
  std::int32_t cached_w0_ = 0;
  std::int32_t cached_count_ = 0;  ///< survivors of the last stage
};

}  // namespace hip_attn::cuda
