/// Attention of one unit of decode by its team, and the combine of the partial softmax states.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attend.cuh"
#include "hip_attn/cuda/decode_unit.cuh"

namespace hip_attn::cuda {

/// Softmax states of one row merged in fixed order, for four dims. 1 << lane_shift lanes of a warp,
/// 32 >> lane_shift apart, share the parts out and all have the result; all lanes of the warp call.
struct MergedState {
  float max = -INFINITY;
  float sum = 0.f;
  float4 value{};

  /// state_of(i) is {max, sum} of part i, value_of(i) its output; max -inf, sum 0: none.
  template <typename StateOf, typename ValueOf>
  __device__ MergedState(int parts, int lane_shift, StateOf&& state_of, ValueOf&& value_of) {
    constexpr std::uint32_t kAll = 0xffffffffu;
    const int first = static_cast<int>(threadIdx.x % 32) >> (5 - lane_shift);
    const int step = 1 << lane_shift;
#pragma unroll 4
    for (int i = first; i < parts; i += step) max = fmaxf(max, state_of(i).x);
#pragma unroll 1
    for (int lanes = 16; lanes >= 32 >> lane_shift; lanes /= 2) {
      max = fmaxf(max, __shfl_xor_sync(kAll, max, lanes));
    }
    const float reference = max == -INFINITY ? 0.f : max;
#pragma unroll 4
    for (int i = first; i < parts; i += step) {
      const float2 state = state_of(i);
      const float4 part = value_of(i);
      const float weight = exp2_fast(state.x - reference);
      sum += weight * state.y;
      value.x += weight * part.x;
      value.y += weight * part.y;
      value.z += weight * part.z;
      value.w += weight * part.w;
    }
#pragma unroll 1
    for (int lanes = 16; lanes >= 32 >> lane_shift; lanes /= 2) {
      sum += __shfl_xor_sync(kAll, sum, lanes);
      value.x += __shfl_xor_sync(kAll, value.x, lanes);
      value.y += __shfl_xor_sync(kAll, value.y, lanes);
      value.z += __shfl_xor_sync(kAll, value.z, lanes);
      value.w += __shfl_xor_sync(kAll, value.w, lanes);
    }
  }
};

template <typename T, int kHeadDim, typename Team>
class DecodeAttention {
 public:
  using Unit = DecodeUnit<T, kHeadDim, Team>;

  __device__ explicit DecodeAttention(Unit& unit)
      : params_(unit.params),
        unit_(unit),
        keys_{min(params_.sink, unit.seq_len),
              unit.window_start(),
              unit.seq_len,
              nullptr,
              0,
              0,
              params_.block_shift,
              unit.window_start()} {}

  /// Asks for the tiles that are attended to whatever is selected. Only where a selection is to be
  /// reused, because a search needs the memory. The queries have been asked for.
  __device__ void request_known() {
    known_tiles_ = keys_.known() / kKeysPerTile;
    const Pass pass(*this, 0);
    request_tiles(warp_attention(pass), pass, 0, known_tiles_, keys_.known());
  }

  /// The memory is needed after all.
  __device__ void drop_known() {
    wait_for_copies();
    __syncthreads();
    unit_.queries_have_arrived();
    known_tiles_ = 0;
  }

  /// Attends to the selection, sink and window, and writes the unit's rows.
  __device__ void attend_to(const UnitSelection& selection) {
    keys_.blocks = selection.blocks;
    keys_.num_blocks = selection.count;
    keys_.start_shift = selection.start_shift;
    keys_.window_start = selection.w0;
    keys_.recent_start = max(keys_.recent_start, selection.w0);
    num_keys_ = keys_.count();
    run();
  }

 private:
  __device__ void run() {
    if (params_.counters && unit_.team.rank() == 0 && thread() == 0) [[unlikely]]
      count_attended();
    unit_.request_queries();
    const int num_rows = this->num_rows();
    const int pass_rows = kRowsPerTile << params_.layout.row_tile_shift;
#pragma unroll 1
    for (int first_row = 0; first_row < num_rows; first_row += pass_rows) {
      if (first_row > 0) [[unlikely]]
        unit_.team.sync();  // the last pass has been merged
      attend(Pass(*this, first_row));
    }
  }

  __device__ static int thread() { return decode_thread(); }

  using Warp = WarpAttention<T, kHeadDim>;

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

    __device__ Pass(const DecodeAttention& of, int first_row_) : first_row(first_row_) {
      const DecodeLayout& layout = of.params_.layout;
      num_rows = min(kRowsPerTile << layout.row_tile_shift, of.num_rows() - first_row);
      const int row_tiles = (num_rows + kRowsPerTile - 1) / kRowsPerTile;
      shift = 32 - __clz(row_tiles - 1);  // of the next power of two
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

  __device__ int num_rows() const { return unit_.rows * params_.group; }

  __device__ void attend(const Pass& pass) {
    if (unit_.team.size() > 1 && thread() == 0) expect(pass.num_rows);
    Warp attention = warp_attention(pass);
    const auto keys = request_tiles(attention, pass, pass.first_row == 0 ? known_tiles_ : 0,
                                    end_of_tiles(), num_keys_);
    unit_.team.meet();  // while tiles are on their way
    if (known_tiles_ > 0 && pass.first_row == 0) {
      wait_for_groups<4>();  // for the queries, which were asked for before all tiles
    } else {
      wait_for_groups<2>();
    }
    __syncthreads();
    unit_.queries_have_arrived();
    if (pass.attends) {
      attend_tiles(attention, keys, pass);
      const int state = pass.tile_row * pass.parts + pass.part;
      attention.store(reinterpret_cast<float*>(pass.slot), unit_.shared.row_max + state,
                      unit_.shared.row_sum + state, pass.parts, pass.num_rows - pass.tile_row);
    }
    __syncthreads();
    combine(pass.first_row, pass.num_rows, pass.parts, pass.shift);
  }

  __device__ Warp warp_attention(const Pass& pass) const {
    const int first = pass.first_row + pass.tile_row;
    std::int32_t last_position[2];
    find_last_positions(first, pass.first_row + pass.num_rows - 1, last_position);
    return Warp(params_, unit_.kv, unit_.shared.queries + first * kQueryPitch<kHeadDim>,
                last_position, unit_.p0());
  }

  __device__ std::int32_t end_of_tiles() const { return (num_keys_ - 1) / kKeysPerTile + 1; }

  /// Both slots' tiles are looked up at once.
  __device__ typename Warp::Place locate(const Warp& attention, const Pass& pass, std::int32_t tile,
                                         std::int32_t num_keys) const {
    const bool second = thread() % 32 >= kKeysPerTile;
    return attention.locate(keys_, second ? tile + pass.to_second : tile, num_keys);
  }

  /// Starts to fill the slots with their first tiles if these lie in [begin, end): two groups of
  /// copies.
  __device__ typename Warp::Keys request_tiles(const Warp& attention, const Pass& pass,
                                               std::int32_t begin, std::int32_t end,
                                               std::int32_t num_keys) const {
    typename Warp::Place place{};
    const bool any = pass.attends && begin < end && pass.tile < end;
    if (any) place = locate(attention, pass, pass.tile, num_keys);
    std::int32_t tile = pass.tile;
#pragma unroll 1
    for (int s = 0; s < 2; ++s) {
      if (any && s < pass.slots && tile >= begin && tile < end) {
        attention.request(place, s, pass.slot + s * pass.slot_pitch);
      }
      commit_copies();
      tile += pass.to_second;
    }
    return Warp::keys_at(place);
  }

  /// Before the tiles of a round are attended the pages of the next round's are looked up.
  __device__ void attend_tiles(Warp& attention, typename Warp::Keys keys, const Pass& pass) const {
    const std::int32_t end = end_of_tiles();
#pragma unroll 1
    for (std::int32_t tile = pass.tile; tile < end; tile += pass.to_next) {
      typename Warp::Place next{};
      const bool more = tile + pass.to_next < end;
      if (more) [[unlikely]]
        next = locate(attention, pass, tile + pass.to_next, num_keys_);
      std::int32_t at = tile;
#pragma unroll 1
      for (int s = 0; s < pass.slots && at < end; ++s) {
        std::byte* const slot = pass.slot + s * pass.slot_pitch;
        wait_for_groups<1>();
        attention.attend(keys, s, slot);
        if (at + pass.to_next < end) [[unlikely]]
          attention.request(next, s, slot);
        commit_copies();
        // An empty group: wait_for_groups<1> waits for the one tile.
        if (pass.slots == 1) commit_copies();
        at += pass.to_second;
      }
      if (more) [[unlikely]]
        keys = Warp::keys_at(next);
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

  // ---- Combine: the team merges (row, dim) pairs in slices, one for each block ------------------

  /// Pairs of this block's slice.
  __device__ int slice_pairs(int num_rows) const {
    const int slice = 1 << params_.slice_shift;
    return min(max(num_rows * kHeadDim - unit_.team.rank() * slice, 0), slice);
  }

  /// Where {max, sum} of `row` from block `from` is received; its slice is received at from *
  /// slice.
  __device__ int state_at(int from, int row, int num_rows) const {
    return (unit_.team.size() << params_.slice_shift) + 2 * (from * num_rows + row);
  }

  __device__ void expect(int num_rows) const {
    const int floats = slice_pairs(num_rows) + 2 * num_rows;
    unit_.team.expect(unit_.team.size() * floats * static_cast<int>(sizeof(float)));
  }

  /// Merges the warps of this block, then the blocks of the team, in fixed order.
  __device__ void combine(int first_row, int num_rows, int parts, int shift) {
    const int size = unit_.team.size();
    const int rank = unit_.team.rank();
    const int slice_shift = params_.slice_shift;
    {
      const int values = num_rows * kHeadDim;
      const Shares shares(values);
#pragma unroll 1
      for (int i = shares.first; i - shares.offset < values; i += shares.step) {
        const int at = min(i, values - 4);
        const int row = at / kHeadDim;
        const int d = at % kHeadDim;
        const float* const row_max = unit_.shared.row_max + row * parts;
        const float* const row_sum = unit_.shared.row_sum + row * parts;
        const std::byte* const out = unit_.shared.slots + row / kRowsPerTile * kSlotBytes +
                                     (row % kRowsPerTile * kOutPitch<kHeadDim> + d) * sizeof(float);
        const int pitch = kSlotBytes << shift;
        const MergedState merged(
            parts, shares.lane_shift, [&](int p) { return make_float2(row_max[p], row_sum[p]); },
            [&](int p) { return *reinterpret_cast<const float4*>(out + p * pitch); });
        if (!shares.writes || i >= values) continue;
        if (size == 1) [[unlikely]] {
          write(first_row + row, d, merged);
          continue;
        }
        const int to = i >> slice_shift;
        unit_.team.send(to, (rank << slice_shift) + i - (to << slice_shift), merged.value);
        if (d / 4 < size) {
          unit_.team.send(d / 4, state_at(rank, row, num_rows),
                          make_float2(merged.max, merged.sum));
        }
      }
    }
    if (size == 1) [[unlikely]]
      return;
    unit_.team.receive();
    const int values = slice_pairs(num_rows);
    const Shares shares(values);
#pragma unroll 1
    for (int i = shares.first; i - shares.offset < values; i += shares.step) {
      const int at = min(i, values - 4);
      const int pair = (rank << slice_shift) + at;
      const int row = pair / kHeadDim;
      const MergedState merged(
          size, shares.lane_shift,
          [&](int p) { return unit_.team.template inbox<float2>(state_at(p, row, num_rows)); },
          [&](int p) { return unit_.team.template inbox<float4>((p << slice_shift) + at); });
      if (shares.writes && i < values) write(first_row + row, pair % kHeadDim, merged);
    }
  }

  /// How a block's threads share out values that are merged, four to a thread, and with few values
  /// up to four threads to the same four: a warp's loop is the same in all its lanes.
  struct Shares {
    int lane_shift;  ///< log2 of the threads that share
    int first;       ///< of this thread's values
    int offset;      ///< of them in the warp's
    int step;
    bool writes;  ///< one of those who share

    __device__ explicit Shares(int values)
        : lane_shift(values <= kDecodeThreads       ? 2
                     : values <= 2 * kDecodeThreads ? 1
                                                    : 0) {
      const int lanes = 32 >> lane_shift;
      offset = (thread() & (lanes - 1)) * 4;
      first = thread() / 32 * lanes * 4 + offset;
      step = kDecodeWarps * lanes * 4;
      writes = thread() % 32 < lanes;
    }
  };

  /// Four dims of one row, normalised.
  __device__ void write(int row, int d, const MergedState& state) const {
    const std::int64_t out_row = unit_.out_row(row);
    const std::int64_t head = unit_.out_head(row);
    const float norm = state.sum == 0.f ? 0.f : __fdividef(1.f, state.sum);
    uint2 four;
    four.x = narrow_pair<T>(state.value.x * norm, state.value.y * norm);
    four.y = narrow_pair<T>(state.value.z * norm, state.value.w * norm);
    *reinterpret_cast<uint2*>(params_.out + out_row * params_.out_row_stride +
                              head * params_.out_head_stride + d) = four;
    if (params_.lse && d == 0) [[unlikely]] {
      constexpr float kLog2 = 0.693147181f;
      params_.lse[out_row * params_.lse_row_stride + head] =
          state.sum == 0.f ? -INFINITY : (state.max + __log2f(state.sum)) * kLog2;
    }
  }

  __device__ void count_attended() const {
    std::int32_t triples = 0;
#pragma unroll 1
    for (int row = 0; row < unit_.rows; ++row) {
      DecodeKeys of_row = keys_;
      of_row.end = unit_.p0() + row + 1;
      of_row.sink_end = min(keys_.sink_end, of_row.end);
      triples += of_row.count();
    }
    atomicAdd(params_.counters + params_.num_stages, static_cast<unsigned long long>(num_keys_));
    atomicAdd(params_.counters + params_.num_stages + 1, static_cast<unsigned long long>(triples));
  }

  static constexpr int kSlotBytes = slot_bytes(kHeadDim);

  const DecodeParams<T>& params_;
  Unit& unit_;
  DecodeKeys keys_;
  std::int32_t num_keys_ = 0;
  std::int32_t known_tiles_ = 0;  ///< that have been asked for
};

}  // namespace hip_attn::cuda
