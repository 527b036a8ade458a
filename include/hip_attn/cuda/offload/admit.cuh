/// Keeps the hot set of a store: makes blocks hot that will be asked for, and writes new rows into
/// those that are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/offload/params.hpp"
#include "hip_attn/cuda/ptx/global_memory.cuh"

namespace hip_attn::cuda {

/// Of a launch that does nothing else.
inline constexpr int kAdmitThreads = 512;
/// Blocks of a unit that one call makes hot at most; others stay at home.
inline constexpr int kMostAdmitted = 4096;

/// Of a selection cache, what the request in `slot` has for a KV head; null: nothing.
__device__ inline const std::int32_t* cache_entry(const AdmitParams& params, std::int32_t slot,
                                                  int kv_head) {
  if (!params.cache || static_cast<std::uint32_t>(slot) >= params.num_cache_slots) return nullptr;
  return params.cache + slot * params.cache_slot_words + kv_head * params.cache_head_words;
}

/// Brings to L2 what a step's admission reads first, which others may still write. By a warp.
__device__ inline void prefetch_for_step(const AdmitParams& params, int request, int kv_head,
                                         int lane) {
  const KvStoreLayout& layout = params.store.layout;
  const std::int32_t row = params.store.rows ? read_hint(params.store.rows + request) : request;
  const std::int32_t last = read_hint(params.seq_lens + request) - 1;
  const std::int32_t column = last >> kKvBlockShift;
  const std::int32_t slot = params.cache_slots ? read_hint(params.cache_slots + request) : request;
  if (const std::int32_t* const entry = cache_entry(params, slot, kv_head)) {
    // The state of the entry, and what the last stage looks at if a search began anew.
    if (lane == 0) prefetch_to_l2(entry);
    if (32 * lane <= params.most_candidates) {
      prefetch_to_l2(entry + params.candidates_word + 32 * lane);
    }
  }
  if (row < 0 || row >= params.store.num_rows || last < 0 || column >= layout.columns) return;
  const std::int64_t unit = std::int64_t{row} * params.store.num_kv_heads + kv_head;
  if (lane == 0) prefetch_to_l2(layout.table + unit * layout.columns + column);
  const std::int32_t hand = read_hint(&layout.unit[unit].hand);
  if (last % kKvBlockTokens != 0 || hand < 0 || hand >= layout.slots) return;
  // It begins a block, and looks for a slot.
  const auto* const line =
      reinterpret_cast<const std::byte*>(layout.owners + unit * layout.slots + hand) + 128 * lane;
  if (line < reinterpret_cast<const std::byte*>(layout.owners + (unit + 1) * layout.slots))
    prefetch_to_l2(line);
}

/// One thread block has a unit for itself: its slots are nobody else's, so nothing here is shared.
///
/// A slot is taken from the block that was not asked for longest, counted in calls that find a new
/// search (a unit's epochs); for few blocks, as an append brings them, from the oldest of as many
/// as there are threads, those behind the unit's hand. Blocks of sink and window, and those asked
/// for in this epoch, stay. So nothing is overwritten that the step behind this call reads from a
/// slot: it finds the block's new place in the table, or that it is at home.
template <int kThreads, int kRowVectors>
class UnitAdmission {
 public:
  static constexpr int kAges = 64;

  struct Shared {
    std::int32_t wanted[kMostAdmitted];  ///< columns of blocks that are not hot
    std::int32_t slots[kMostAdmitted];   ///< that they get
    std::int32_t ages[kAges];            ///< slots of each age
    std::int32_t num_wanted;
    std::int32_t num_taken;
    std::int32_t num_oldest;  ///< taken so far of the age of which not all are
    std::int32_t hits;
    std::int32_t misses;  ///< that were copied from home
    std::int32_t evictions;
  };

  __device__ UnitAdmission(const AdmitParams& params, Shared& shared, int request, int kv_head)
      : params_(params), store_(params.store), shared_(shared), kv_head_(kv_head) {
    const KvStoreLayout& layout = store_.layout;
    const std::int32_t row = store_.rows ? store_.rows[request] : request;
    std::int32_t added = 0;
    if (params.cu_seqlens) {
      first_row_ = params.cu_seqlens[request];
      added = params.cu_seqlens[request + 1] - first_row_;
    }
    end_ = params.seq_lens[request];
    begin_ = end_ - added;
    holds_ = row >= 0 && row < store_.num_rows && first_row_ >= 0 && added >= 0 &&
             first_row_ + std::int64_t{added} <= params.num_tokens && begin_ >= 0 && end_ > 0 &&
             end_ <= params.table_columns * kKvBlockTokens &&
             end_ <= layout.columns * kKvBlockTokens;
    unit_ = std::int64_t{row} * store_.num_kv_heads + kv_head;
    homes_ = params.block_table + request * params.table_row_stride;
    entry_ =
        cache_entry(params, params.cache_slots ? params.cache_slots[request] : request, kv_head);
  }

  __device__ void run() {
    if (!holds_) return;
    const KvStoreLayout& layout = store_.layout;
    table_ = layout.table + unit_ * layout.columns;
    owners_ = layout.owners + unit_ * layout.slots;
    first_slot_ = static_cast<std::int32_t>(unit_ * layout.slots);
    // On its way with what decides whether that is all.
    const NewVector own = read_new_vector(thread());
    const KvStoreUnit before = layout.unit[unit_];
    find_window(before);
    // A step of decode, and all blocks that go on are hot.
    if (!begins_anew_ && (end_ - begin_) * 2 * kRowVectors <= kThreads &&
        __syncthreads_and(own.page == NewVector::kNone ||
                          is_hot(own.page) == (own.column < first_new_column()))) {
      if (last_column() < first_new_column()) return write(own);
      if (last_column() == first_new_column() && begin_block(own, before)) return;
    }
    now_ = before.epoch + (begins_anew_ ? 1 : 0);
    hand_ = before.hand;
    if (thread() == 0) {
      shared_.num_wanted = shared_.num_taken = shared_.num_oldest = 0;
      shared_.hits = shared_.misses = shared_.evictions = 0;
    }
    __syncthreads();
    want_new_blocks();
    __syncthreads();  // new blocks come first
    if (begins_anew_) want_what_is_read();
    __syncthreads();
    const std::int32_t wanted = min(shared_.num_wanted, kMostAdmitted);
    if (wanted > 0) {
      find_slots(wanted);
      const std::int32_t admitted = min(shared_.num_taken, wanted);
      admit(admitted);
      __syncthreads();
      copy_from_home(admitted);
      __syncthreads();
    }
    write_new_rows();
    if (thread() != 0) return;
    count();
    layout.unit[unit_] = {now_, begins_anew_ ? window_start_ : before.window_start, hand_};
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ bool is_hot(std::int32_t page) const {
    return static_cast<std::uint32_t>(page) < static_cast<std::uint32_t>(store_.near_pages);
  }
  __device__ std::int32_t column_of(std::int32_t position) const {
    return position >> kKvBlockShift;
  }
  __device__ std::int32_t last_column() const { return column_of(end_ - 1); }
  /// The first block of which nothing existed before this call.
  __device__ std::int32_t first_new_column() const {
    return static_cast<std::int32_t>((begin_ + kKvBlockTokens - 1) >> kKvBlockShift);
  }

  /// W0 of what decode reads next, and whether a search began anew since the call before.
  __device__ void find_window(const KvStoreUnit& before) {
    const std::int32_t newest = max(params_.sink, end_ - params_.window);
    window_start_ = newest;
    candidates_ = 0;
    begins_anew_ = before.window_start == 0;
    if (!entry_) return;
    const std::int32_t state = entry_[CacheLayout::kState];
    const std::int32_t w0 = entry_[CacheLayout::kWindowStart];
    const std::int32_t count = entry_[params_.candidates_word];
    if (state == kCacheEmpty || w0 < 0 || w0 > newest) return;
    window_start_ = w0;
    // A search ahead from a later stage on keeps W0. The step behind it reads what it left.
    begins_anew_ = w0 != before.window_start || state == kCacheAhead;
    if (count >= 0 && count <= params_.most_candidates) candidates_ = count;
  }

  /// Blocks that begin with a row of this call are at the place that the block table says now.
  __device__ void want_new_blocks() {
    const std::int32_t last = last_column();
    // The block that goes on, and of many new ones the last.
    const std::int32_t least =
        max(column_of(begin_), last + 1 - min(kMostAdmitted, static_cast<int>(slots())));
    for (std::int32_t c = column_of(begin_) + thread(); c <= last; c += kThreads) {
      std::int32_t page = table_[c];
      if (c >= first_new_column()) {
        if (is_hot(page)) {
          owners_[page - first_slot_].home = homes_[c];
        } else {
          page = table_[c] = store_.far_page(homes_[c], kv_head_);
        }
      }
      if (c >= least && page >= 0 && !is_hot(page)) want(c);
    }
  }

  /// Sink, window, and what the last stage looks at.
  __device__ void want_what_is_read() {
    // Columns of a thread that are looked up at once: with 256 threads all that `landmark` reads.
    constexpr int kEach = 5;
    const std::int32_t end = column_of(begin_);  // from there on they are wanted already
    const auto sink_columns =
        static_cast<std::int32_t>((min(params_.sink, end_) + kKvBlockTokens - 1) >> kKvBlockShift);
    const std::int32_t window_column = max(sink_columns, column_of(window_start_));
    const std::int32_t of_sink = min(sink_columns, end);
    const std::int32_t before_chunks = of_sink + max(end - window_column, 0);
    // Chunks are a whole number of blocks, or parts of one: then a block is asked for once.
    const std::int32_t chunk_shift =
        params_.max_first_chunks > 0
            ? first_chunk_shift(params_.chunk_shift, params_.max_first_chunks,
                                max(window_start_ - params_.sink, 0))
            : params_.chunk_shift;
    const int shift = max(chunk_shift - kKvBlockShift, 0);
    const std::int32_t* const starts = entry_ + params_.candidates_word + 1;
    const std::int32_t count = before_chunks + (candidates_ << shift);
    const auto column_in_chunk = [&](std::int32_t i, std::int32_t start) {
      const std::int32_t c = column_of(start) + (i & ((1 << shift) - 1));
      if (start < 0 || start >= window_start_ || c < sink_columns || c >= min(window_column, end))
        return -1;
      return shift == 0 && i > 0 && column_of(starts[i - 1]) == c ? -1 : c;
    };
    std::int32_t hits = 0;
    for (std::int32_t first = thread(); first < count; first += kEach * kThreads) {
      std::int32_t columns[kEach];  // -1: none
      std::int32_t pages[kEach];
#pragma unroll
      for (int n = 0; n < kEach; ++n) {
        const std::int32_t in_chunks = first + n * kThreads - before_chunks;
        columns[n] = -1;
        read_where(columns[n], starts + (in_chunks >> shift),
                   in_chunks >= 0 && in_chunks < candidates_ << shift);
      }
#pragma unroll
      for (int n = 0; n < kEach; ++n) {
        const std::int32_t i = first + n * kThreads;
        columns[n] = i < of_sink         ? i
                     : i < before_chunks ? window_column + i - of_sink
                                         : column_in_chunk(i - before_chunks, columns[n]);
      }
#pragma unroll
      for (int n = 0; n < kEach; ++n) {
        pages[n] = -1;
        read_where(pages[n], table_ + columns[n], columns[n] >= 0);
      }
#pragma unroll
      for (int n = 0; n < kEach; ++n) {
        if (is_hot(pages[n])) {
          owners_[pages[n] - first_slot_].epoch = now_;
          ++hits;
        } else if (pages[n] >= 0) {
          want(columns[n]);
        }
      }
    }
    if (hits > 0) atomicAdd(&shared_.hits, hits);
  }

  __device__ void want(std::int32_t column) {
    const std::int32_t i = atomicAdd(&shared_.num_wanted, 1);
    if (i < kMostAdmitted) shared_.wanted[i] = column;
  }

  __device__ std::int64_t slots() const { return store_.layout.slots; }

  /// 0: it stays; kAges - 1: it is free.
  __device__ int age_of(const KvStoreOwner& owner) const {
    if (owner.column < 0) return kAges - 1;
    const bool is_read =
        owner.column < column_of(params_.sink + kKvBlockTokens - 1) ||
        (owner.column >= column_of(window_start_) && owner.column <= last_column());
    return is_read ? 0 : min(max(now_ - owner.epoch, 0), kAges - 2);
  }

  /// As many slots as there are for `wanted` blocks, the oldest first.
  __device__ void find_slots(std::int32_t wanted) {
    constexpr std::int32_t kFew = 8;
    if (wanted <= kFew && slots() > kThreads) {
      take_oldest(wanted, hand_, kThreads);
      hand_ = static_cast<std::int32_t>((hand_ + kThreads) % slots());
      if (shared_.num_taken == wanted) return;
      __syncthreads();
      if (thread() == 0) shared_.num_taken = shared_.num_oldest = 0;
    }
    take_oldest(wanted, 0, slots());
  }

  /// Of `count` slots from `first` on.
  __device__ void take_oldest(std::int32_t wanted, std::int32_t first, std::int64_t count) {
    const auto slot_of = [&](std::int64_t i) {
      const std::int64_t slot = first + i;
      return slot < slots() ? slot : slot - slots();
    };
    if (thread() < kAges) shared_.ages[thread()] = 0;
    __syncthreads();
    for (std::int64_t i = thread(); i < count; i += kThreads) {
      const int age = age_of(owners_[slot_of(i)]);
      if (age > 0) atomicAdd(&shared_.ages[age], 1);
    }
    __syncthreads();
    int age = kAges - 1;
    std::int32_t left = wanted;
    for (; age > 0 && shared_.ages[age] <= left; --age) left -= shared_.ages[age];
    for (std::int64_t i = thread(); i < count; i += kThreads) {
      const int of_slot = age_of(owners_[slot_of(i)]);
      if (of_slot < age || of_slot == 0) continue;
      if (of_slot == age && atomicAdd(&shared_.num_oldest, 1) >= left) continue;
      shared_.slots[atomicAdd(&shared_.num_taken, 1)] = static_cast<std::int32_t>(slot_of(i));
    }
    __syncthreads();
  }

  __device__ void admit(std::int32_t admitted) {
    for (std::int32_t i = thread(); i < admitted; i += kThreads) {
      const std::int32_t column = shared_.wanted[i];
      const std::int32_t slot = shared_.slots[i];
      const std::int32_t home =
          (table_[column] - store_.near_pages - kv_head_) / store_.num_kv_heads;  // of a far page
      // While they are in the window, new blocks stay in any case.
      const std::int32_t epoch = column < column_of(begin_) ? now_ : now_ - 1;
      if (give(slot, owners_[slot], {column, home, epoch})) atomicAdd(&shared_.evictions, 1);
      if (column < first_new_column()) atomicAdd(&shared_.misses, 1);
    }
  }

  /// The slot goes from one block to another. True: the former had it.
  __device__ bool give(std::int32_t slot, KvStoreOwner from, const KvStoreOwner& to) const {
    const bool evicts = from.column >= 0;
    if (evicts) table_[from.column] = store_.far_page(from.home, kv_head_);
    owners_[slot] = to;
    table_[to.column] = first_slot_ + slot;
    return evicts;
  }

  __device__ uint4* block_of(std::int32_t slot) const {
    return reinterpret_cast<uint4*>(store_.layout.blocks) +
           (std::int64_t{first_slot_} + slot) * kBlockVectors;
  }
  static constexpr int kBlockVectors = 2 * static_cast<int>(kKvBlockTokens) * kRowVectors;

  /// A warp takes a block, whose vectors are all on their way at once.
  __device__ void copy_from_home(std::int32_t admitted) const {
    constexpr int kEach = kBlockVectors / 32;
    const int lane = thread() % 32;
    const int warps = min(kThreads / 32, params_.copying_warps);
    if (thread() / 32 >= warps) return;
    for (std::int32_t i = thread() / 32; i < admitted; i += warps) {
      if (shared_.wanted[i] >= first_new_column()) continue;  // nothing is there yet
      const std::int32_t slot = shared_.slots[i];
      const std::int64_t page = std::int64_t{owners_[slot].home} * store_.num_kv_heads + kv_head_;
      const uint4* const from = reinterpret_cast<const uint4*>(store_.home) + page * kBlockVectors;
      uint4* const to = block_of(slot);
      uint4 vectors[kEach];
#pragma unroll
      for (int n = 0; n < kEach; ++n) vectors[n] = __ldcg(from + n * 32 + lane);
#pragma unroll
      for (int n = 0; n < kEach; ++n) to[n * 32 + lane] = vectors[n];
    }
  }

  /// 16 bytes of a new row, and where they go.
  struct NewVector {
    static constexpr std::int32_t kNone = -2;  ///< there is no such vector
    std::int32_t column = 0;
    std::int32_t page = kNone;
    int within = 0;  ///< the block
    uint4 value;
  };

  /// Number i of those of the call's rows, keys and values.
  __device__ NewVector read_new_vector(std::int64_t i) const {
    NewVector of;
    if (i >= std::int64_t{end_ - begin_} * 2 * kRowVectors) return of;
    const auto vector = static_cast<int>(i % kRowVectors);
    const auto is_v = static_cast<int>(i / kRowVectors % 2);
    const auto token = static_cast<std::int32_t>(i / (2 * kRowVectors));
    const std::int32_t position = begin_ + token;
    const AddedRows& rows = is_v ? params_.v : params_.k;
    of.column = column_of(position);
    of.page = table_[of.column];
    of.value = static_cast<const uint4*>(
        rows.data)[(first_row_ + std::int64_t{token}) * rows.token_stride +
                   kv_head_ * rows.head_stride + vector];
    constexpr auto kTokens = static_cast<int>(kKvBlockTokens);
    of.within = (is_v * kTokens + position % kTokens) * kRowVectors + vector;
    return of;
  }
  __device__ void write(const NewVector& of) const {
    if (is_hot(of.page)) block_of(of.page - first_slot_)[of.within] = of.value;
  }

  __device__ void write_new_rows() const {
    const std::int64_t vectors = std::int64_t{end_ - begin_} * 2 * kRowVectors;
    for (std::int64_t i = thread(); i < vectors; i += kThreads) {
      write(read_new_vector(i));
    }
  }

  /// Begins the last block, the only one to begin, in the slot of the oldest of as many blocks as
  /// there are threads, from the unit's hand on; false: none of them can go. A thread looks at one,
  /// because the next kernel waits for this.
  __device__ bool begin_block(NewVector own, const KvStoreUnit& before) {
    now_ = before.epoch;
    const std::int32_t column = last_column();
    const std::int32_t home = homes_[column];
    if (store_.far_page(home, kv_head_) < 0) return false;
    const auto slots_of_unit = static_cast<std::int32_t>(slots());
    const auto slot_of = [&](int i) {  // i from 0 to the number of slots
      const std::int32_t slot = before.hand + i;
      return slot < slots_of_unit ? slot : slot - slots_of_unit;
    };
    KvStoreOwner owner{};
    int age = 0;
    if (thread() < slots_of_unit) {
      owner = owners_[slot_of(thread())];
      age = age_of(owner);
    }
    const int oldest = largest_of_block(age * kThreads + thread());
    if (oldest < kThreads) return false;
    const int taker = oldest % kThreads;
    const std::int32_t slot = slot_of(taker);
    if (thread() == taker) {
      if (give(slot, owner, {column, home, now_ - 1})) add(kKvEvictions, 1);
      store_.layout.unit[unit_] = {before.epoch, before.window_start,
                                   slot_of(min(kThreads, slots_of_unit))};
    }
    if (own.page != NewVector::kNone && own.column == column) own.page = first_slot_ + slot;
    write(own);
    return true;
  }

  /// The largest of all threads' values.
  __device__ int largest_of_block(int value) {
    value = __reduce_max_sync(0xffffffffu, value);
    if (thread() % 32 == 0) shared_.ages[thread() / 32] = value;
    __syncthreads();
    for (int warp = 0; warp < kThreads / 32; ++warp) value = max(value, shared_.ages[warp]);
    return value;
  }

  __device__ void add(KvStoreCount which, std::int32_t number) const {
    if (number == 0) return;
    atomicAdd(reinterpret_cast<unsigned long long*>(store_.layout.counts + which),
              static_cast<unsigned long long>(number));
  }
  __device__ void count() const {
    add(kKvHits, shared_.hits);
    add(kKvMisses, shared_.misses);
    add(kKvEvictions, shared_.evictions);
  }

  const AdmitParams& params_;
  const KvStoreParams& store_;
  Shared& shared_;
  int kv_head_;
  bool holds_;
  std::int32_t first_row_ = 0;  ///< of the call, in k
  std::int32_t begin_;          ///< position of that row
  std::int32_t end_;
  std::int64_t unit_;
  const std::int32_t* homes_;
  const std::int32_t* entry_;  ///< of the selection cache, null: none
  std::int32_t* table_ = nullptr;
  KvStoreOwner* owners_ = nullptr;
  std::int32_t first_slot_ = 0;
  std::int32_t window_start_ = 0;
  std::int32_t candidates_ = 0;
  std::int32_t now_ = 0;
  std::int32_t hand_ = 0;
  bool begins_anew_ = false;
};

/// One thread block for each KV head and request, in x and y.
template <int kThreads, int kRowVectors>
__global__ void __launch_bounds__(kThreads)
    admit_kernel(const __grid_constant__ AdmitParams params) {
  __shared__ typename UnitAdmission<kThreads, kRowVectors>::Shared shared;
  for (int request = static_cast<int>(blockIdx.y); request < params.batch;
       request += static_cast<int>(gridDim.y)) {
    __syncthreads();
    UnitAdmission<kThreads, kRowVectors>(params, shared, request, static_cast<int>(blockIdx.x))
        .run();
  }
}

}  // namespace hip_attn::cuda
