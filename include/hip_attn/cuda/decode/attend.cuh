/// Stage "attend" of decode: one unit by its team, ending with the combine.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode/combine.cuh"
#include "hip_attn/cuda/decode/unit.cuh"
#include "hip_attn/cuda/decode/warp_attention.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/rows/query_rows.cuh"

namespace hip_attn::cuda {

template <typename Traits, typename Team>
class DecodeAttention {
 public:
  using Element = typename Traits::Element;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Unit = DecodeUnit<Traits, Team>;

  __device__ explicit DecodeAttention(Unit& unit) : params_(unit.params), unit_(unit) {}

  /// Starts to read, of the blocks that the cache holds, the one in which this lane's key will lie
  /// if the unit's one row attends to them.
  template <bool kAtOnce>
  __device__ void read_early(const std::int32_t* blocks, bool exist) {
    const std::int32_t key = first_key(one_row_shift<kAtOnce>());
    const std::int32_t number = (key - params_.search.sink) >> params_.search.block_shift;
    const bool wanted = exist & is_below(number, params_.last_stage.max_survivors);
    read_where(early_block_.start, blocks + number, wanted);
    read_where(early_block_.before, blocks + number - 1, wanted);  // of the first, their number
  }

  /// Looks that key up, in what may turn out not to be used: lengths need not have been checked.
  template <bool kAtOnce>
  __device__ void look_up_early(const UnitSelection& selection) {
    take(selection);
    lookup_ = look_up(first_key(one_row_shift<kAtOnce>()), early_block_);
  }

  /// One query row, of a length that holds.
  __device__ bool is_one_row() const {
    return (unit_.rows == 1) & is_below(unit_.first_row, params_.tensors.total_q) &
           is_below(unit_.seq_len - 1, params_.max_seq_len);
  }
  /// There are as many slots as tiles.
  __device__ bool fits_at_once() const { return num_keys_ <= params_.keys_at_once; }

  /// Looks the first keys of a selection up, if it is one row's and fits the slots.
  __device__ bool looks_up_at_once(const UnitSelection& selection) {
    take(selection);
    if (!(is_one_row() && fits_at_once())) return false;
    lookup_ = look_up(first_key(one_row_shift<true>()));
    return true;
  }

  /// Attends to what was looked up.
  template <bool kAtOnce>
  __device__ void attend_early() {
    attend<kAtOnce ? Path::kAtOnce : Path::kOneRow>(
        Pass(*this, 0, params_.group, one_row_shift<kAtOnce>()));
    count_attended();
  }

  /// Attends to the selection, sink and window, and writes the unit's rows.
  __device__ void attend_to(const UnitSelection& selection) {
    take(selection);
    // No row sees what lies before.
    keys_.window_start = max(keys_.window_start, unit_.p0() + 1 - params_.search.row_window);
    num_keys_ = keys_.count();
    if constexpr (Team::kFloatRows) {
      if (params_.tensors.q.is_float) unit_.use_queries(1);
    }
    const int num_rows = unit_.rows * params_.group;
    const int pass_rows = kRowsPerTile << params_.layout.row_tile_shift;
#pragma unroll 1
    for (int first_row = 0; first_row < num_rows; first_row += pass_rows) {
      if (first_row > 0) unit_.team.sync();  // the last pass has been merged
      const Pass pass(*this, first_row, num_rows, row_tile_shift(num_rows - first_row));
      lookup_ = look_up(first_key(pass.shift));
      attend<Path::kAny>(pass);
    }
    count_attended();
  }

 private:
  __device__ void take(const UnitSelection& selection) {
    keys_.sink_end = min(params_.search.sink, unit_.seq_len);
    keys_.blocks = selection.blocks;
    keys_.num_blocks = selection.count;
    keys_.start_shift = selection.start_shift;
    keys_.block_shift = params_.search.block_shift;
    keys_.window_start = selection.w0;
    keys_.end = unit_.seq_len;
    num_keys_ = keys_.count();
  }

  __device__ static int thread() { return decode_thread(); }

  /// What the code of a path takes for granted.
  enum class Path {
    kAny,
    kOneRow,  ///< one query row, q of 16 bits, logits that are not capped
    kAtOnce,  ///< that, eight heads at most, values that lie as keys do, several blocks, and as
              ///< many slots as tiles
  };

  using Warp = WarpAttention<Traits>;
  using Lookup = typename Warp::Lookup;

  /// log2 of the tiles of query rows in a pass when `num_rows` are left: the next power of two.
  __device__ int row_tile_shift(int num_rows) const {
    const int rows = min(kRowsPerTile << params_.layout.row_tile_shift, num_rows);
    return 32 - __clz((rows + kRowsPerTile - 1) / kRowsPerTile - 1);
  }

  /// The same for one query row.
  template <bool kAtOnce>
  __device__ int one_row_shift() const {
    return kAtOnce ? 0 : row_tile_shift(params_.group);
  }

  /// This lane's key in the first tiles of its warp: those of both slots are looked up at once.
  __device__ std::int32_t first_key(int shift) const {
    const int slot = (thread() / 32 + (thread() % 32 < kKeysPerTile ? 0 : kDecodeWarps)) >> shift;
    return (slot * unit_.team.size() + unit_.team.rank()) * kKeysPerTile + thread() % kKeysPerTile;
  }

  __device__ Lookup look_up(std::int32_t key) const {
    return look_up(key, keys_.block_of(min(key, num_keys_ - 1)));
  }
  __device__ Lookup look_up(std::int32_t key, ListedBlock block) const {
    return Warp::look_up(params_, unit_.kv, key,
                         keys_.checked_position(min(key, num_keys_ - 1), block));
  }

  /// What a warp does in the pass over rows [first_row, first_row + num_rows). Warps share out the
  /// tiles of rows first, then the slots; slots of one tile of rows take tiles of keys in turn, so
  /// that all blocks of the team get as many, one of them more or less.
  struct Pass {
    int first_row;
    int num_rows;
    int shift;     ///< log2 of the tiles of rows
    int parts;     ///< warps that share a tile of rows
    int part;      ///< this one
    int tile_row;  ///< of the pass
    bool attends;
    int slots;               ///< 1 or 2
    std::byte* slot;         ///< the first
    int slot_pitch;          ///< bytes to the second
    std::int32_t tile;       ///< of keys, the first in the first slot
    std::int32_t to_second;  ///< tiles from there to that of the second
    std::int32_t to_next;    ///< to the one that follows in the same slot

    __device__ Pass(const DecodeAttention& of, int first_row_, int end_row, int shift_)
        : first_row(first_row_), shift(shift_) {
      const DecodeLayout& layout = of.params_.layout;
      num_rows = min(kRowsPerTile << layout.row_tile_shift, end_row - first_row);
      const int key_warps = kDecodeWarps >> shift;
      const int key_slots = min(layout.slots >> shift, kSlotsPerWarp * key_warps);
      const int warp = thread() / 32;
      parts = min(key_warps, key_slots);
      part = warp >> shift;
      tile_row = (warp & ((1 << shift) - 1)) * kRowsPerTile;
      attends = part < parts && tile_row < num_rows;
      slots = part + key_warps < key_slots ? 2 : 1;
      slot = of.unit_.shared.slots + warp * kSlotBytes;
      slot_pitch = (key_warps << shift) * kSlotBytes;
      tile = part * of.unit_.team.size() + of.unit_.team.rank();
      to_second = key_warps * of.unit_.team.size();
      to_next = key_slots * of.unit_.team.size();
    }
  };

  template <Path kPath>
  __device__ void attend(const Pass& pass) {
    constexpr bool kAtOnce = kPath == Path::kAtOnce;
    using Combine = DecodeCombine<Traits, Team, kAtOnce>;
    const PassRows rows{pass.first_row, pass.num_rows, pass.shift, pass.parts};
    // While pages are looked up.
    const typename Warp::Queries queries(query_of_lane<kPath>(pass));
    request_tiles<kAtOnce>(pass);
    if (unit_.team.size() > 1 && thread() == 0) Combine::expect(unit_, pass.num_rows);
    unit_.team.await_blocks();
    if constexpr (kAtOnce) {
      Combine combine(unit_, rows);  // while tiles arrive
      attend_and_store<kPath>(queries, pass);
      combine.run();
    } else {
      attend_and_store<kPath>(queries, pass);
      Combine(unit_, rows).run();
    }
  }

  /// Leaves the states of all warps in shared memory.
  template <Path kPath>
  __device__ void attend_and_store(const typename Warp::Queries& queries, const Pass& pass) {
    if (pass.attends) {
      std::int32_t last_position[2];
      find_last_positions(pass.first_row + pass.tile_row, pass.first_row + pass.num_rows - 1,
                          last_position);
      Warp attention(params_, unit_.kv, queries, last_position, unit_.p0(), keys_);
      attend_tiles<kPath>(attention, pass);
      attention.store(reinterpret_cast<float*>(pass.slot),
                      unit_.shared.states + pass.tile_row * pass.parts + pass.part, pass.parts,
                      pass.num_rows - pass.tile_row);
    }
    __syncthreads();
  }

  /// The query row with number lane / 4 of this warp's tile; past the last one any.
  template <Path kPath>
  __device__ const Element* query_of_lane(const Pass& pass) const {
    const auto& q = params_.tensors.q;
    const int in_tile = thread() % 32 / 4;
    if constexpr (kPath != Path::kAny) {
      const int head = min(pass.tile_row + in_tile, params_.group - 1);
      return elements_at<Element>(q, unit_.first_query() + head * q.head_stride);
    }
    const int row =
        min(pass.first_row + pass.tile_row + in_tile, pass.first_row + pass.num_rows - 1);
    if (Team::kFloatRows && q.is_float)  // rounded, in shared memory
      return unit_.shared.queries + row * kQueryPitch<kHeadDim>;
    const int query_row = unit_.query_row(row);
    return elements_at<Element>(q, unit_.first_query() + query_row * q.row_stride +
                                       (row - query_row * params_.group) * q.head_stride);
  }

  __device__ std::int32_t end_of_tiles() const {
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(num_keys_) + kKeysPerTile - 1) /
                                     kKeysPerTile);
  }

  /// Keys from the first of a tile on.
  __device__ std::int32_t keys_from(std::int32_t tile) const {
    return num_keys_ - tile * kKeysPerTile;
  }

  /// Starts to copy the first tiles of both slots: two groups of copies. kAtOnce: values lie as
  /// keys do.
  template <bool kAtOnce>
  __device__ void request_tiles(const Pass& pass) const {
    const std::int32_t end = pass.attends ? end_of_tiles() : 0;
    if (pass.tile >= end) return;
    const bool second = pass.slots == 2 && pass.tile + pass.to_second < end;
    // The rows of both are known before copies occupy the memory pipe.
    using Tile = typename Warp::Tile;
    using Rows = typename Tile::Rows;
    const auto place = Warp::place_of(unit_.kv, lookup_);
    const std::uint32_t list = Tile::list(pass.slot, place.key);
    std::uint32_t value_list = list;
    std::ptrdiff_t to_value = 0;
    if constexpr (kAtOnce) {
      to_value = reinterpret_cast<const std::byte*>(params_.tensors.kv.v.data) -
                 reinterpret_cast<const std::byte*>(params_.tensors.kv.k.data);
    } else {
      value_list = Tile::list(pass.slot + Tile::kListBytes, place.value);
    }
    __syncwarp();
    const Rows keys = Rows::from_list(list, 0);
    const Rows values = Rows::from_list(value_list, 0) + to_value;
    const Rows second_keys = Rows::from_list(list, 1);
    const Rows second_values = Rows::from_list(value_list, 1) + to_value;
    __syncwarp();
    Warp::copy(keys, values, keys_from(pass.tile), pass.slot);
    commit_copies();
    if (second) {
      Warp::copy(second_keys, second_values, keys_from(pass.tile + pass.to_second),
                 pass.slot + pass.slot_pitch);
    }
    commit_copies();
  }

  template <Path kPath>
  __device__ void attend_tiles(Warp& attention, const Pass& pass) const {
    constexpr bool kAllSee = kPath != Path::kAny;
    typename Warp::Keys keys = attention.keys_at(lookup_, num_keys_);
    const std::int32_t end = end_of_tiles();
    if constexpr (kPath == Path::kAtOnce) {
      if (pass.tile >= end) return;
      wait_for_groups<1>();
      attention.template attend<kAllSee>(keys, 0, pass.slot);
      if (pass.slots == 1 || pass.tile + pass.to_second >= end) return;
      wait_for_groups<0>();
      return attention.template attend<kAllSee>(keys, 1, pass.slot + pass.slot_pitch);
    }
    Lookup next = lookup_;
#pragma unroll 1
    for (std::int32_t tile = pass.tile; tile < end; tile += pass.to_next) {
      // Before the tiles of a round are attended those of the next round are looked up.
      typename Warp::Place place{};
      const bool more = tile + pass.to_next < end;
      if (more) {
        next = look_up(next.index + pass.to_next * kKeysPerTile);
        place = Warp::place_of(unit_.kv, next);
      }
      std::int32_t at = tile;
#pragma unroll 1
      for (int s = 0; s < pass.slots && at < end; ++s) {
        std::byte* const slot = pass.slot + s * pass.slot_pitch;
        wait_for_groups<1>();
        attention.template attend<kAllSee>(keys, s, slot);
        if (at + pass.to_next < end) Warp::request(place, s, keys_from(at + pass.to_next), slot);
        commit_copies();
        // An empty group: wait_for_groups<1> waits for the one tile.
        if (pass.slots == 1) commit_copies();
        at += pass.to_second;
      }
      if (more) keys = attention.keys_at(next, num_keys_);
    }
  }

  /// Of the query rows 2t and 2t + 1 of the tile that begins with `first` in lane t of a quad.
  __device__ void find_last_positions(int first, int last, std::int32_t (&position)[2]) const {
    const int row = min(first + thread() % 4 * 2, last);
    const int query_row = unit_.query_row(row);
    const bool is_next = row < last && row + 1 == (query_row + 1) * params_.group;
    position[0] = unit_.p0() + query_row;
    position[1] = position[0] + (unit_.rows > 1 && is_next);
  }

  __device__ void count_attended() const {
    if (!params_.counters || unit_.team.rank() != 0 || thread() != 0) [[likely]]
      return;
    std::int32_t triples = 0;
#pragma unroll 1
    for (int row = 0; row < unit_.rows; ++row) {
      triples += keys_.until(unit_.p0() + row, params_.search.row_window).count();
    }
    atomicAdd(params_.counters + params_.search.num_stages,
              static_cast<unsigned long long>(num_keys_));
    atomicAdd(params_.counters + params_.search.num_stages + 1,
              static_cast<unsigned long long>(triples));
  }

  static constexpr int kSlotBytes = slot_bytes(kHeadDim);

  const DecodeParams<Stored>& params_;
  Unit& unit_;
  UncheckedKeys keys_;
  std::int32_t num_keys_ = 0;
  ListedBlock early_block_;
  Lookup lookup_{};  ///< of this lane, for the first tiles
};

}  // namespace hip_attn::cuda
