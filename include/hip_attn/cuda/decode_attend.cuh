/// Attention of one unit of decode by its team, and the combine of the partial softmax states.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/attend.cuh"
#include "hip_attn/cuda/decode_unit.cuh"

namespace hip_attn::cuda {

/// Softmax states of one row merged in order, for four dims.
struct MergedState {
  float max = -INFINITY;
  float sum = 0.f;
  float4 value{};

  /// state_of(i) is {max, sum} of part i, value_of(i) its output; max -inf, sum 0: none.
  template <typename StateOf, typename ValueOf>
  __device__ MergedState(int parts, StateOf&& state_of, ValueOf&& value_of) {
#pragma unroll 4
    for (int i = 0; i < parts; ++i) max = fmaxf(max, state_of(i).x);
    const float reference = max == -INFINITY ? 0.f : max;
#pragma unroll 4
    for (int i = 0; i < parts; ++i) {
      const float2 state = state_of(i);
      const float4 part = value_of(i);
      const float weight = exp2_fast(state.x - reference);
      sum += weight * state.y;
      value.x += weight * part.x;
      value.y += weight * part.y;
      value.z += weight * part.z;
      value.w += weight * part.w;
    }
  }
};

template <typename T, int kHeadDim, typename Team>
class DecodeAttention {
 public:
  using Unit = DecodeUnit<T, kHeadDim, Team>;

  __device__ DecodeAttention(Unit& unit, const UnitSelection& selection)
      : params_(unit.params),
        unit_(unit),
        keys_{min(params_.sink, unit.seq_len),
              selection.blocks,
              selection.count,
              selection.start_shift,
              params_.block_shift,
              selection.w0,
              unit.seq_len},
        num_keys_(keys_.count()) {}

  __device__ void run() {
    if (params_.counters && unit_.team.rank() == 0 && thread() == 0) count_attended();
    const int num_rows = unit_.use_queries(1);
    const int pass_rows = kRowsPerTile << params_.layout.row_tile_shift;
#pragma unroll 1
    for (int first_row = 0; first_row < num_rows; first_row += pass_rows) {
      if (first_row > 0) unit_.team.sync();  // the last pass has been merged
      attend(first_row, min(pass_rows, num_rows - first_row));
    }
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  /// Rows [first_row, first_row + num_rows). Warps share out the tiles of rows first, then the
  /// slots; slots of one tile of rows take tiles of keys in turn.
  __device__ void attend(int first_row, int num_rows) {
    const int row_tiles = (num_rows + kRowsPerTile - 1) / kRowsPerTile;
    const int shift = 32 - __clz(row_tiles - 1);  // of the next power of two
    const int key_warps = kDecodeWarps >> shift;
    const int key_slots = min(params_.layout.slots >> shift, kSlotsPerWarp * key_warps);
    const int parts = min(key_warps, key_slots);
    const int warp = thread() / 32;
    const int tile_row = (warp & ((1 << shift) - 1)) * kRowsPerTile;
    const int key_warp = warp >> shift;
    if (unit_.team.size() > 1 && thread() == 0) expect(num_rows);
    if (key_warp < parts && tile_row < num_rows) {
      std::int32_t last_position[2];
      for (int i = 0; i < 2; ++i) {
        const int row = min(tile_row + thread() % 4 * 2 + i, num_rows - 1);
        last_position[i] = unit_.p0() + unit_.query_row(first_row + row);
      }
      WarpAttention<T, kHeadDim> attention(
          params_, unit_.kv, unit_.shared.queries + (first_row + tile_row) * kQueryPitch<kHeadDim>,
          last_position, unit_.p0());
      std::byte* const slot = unit_.shared.slots + warp * kSlotBytes;
      attend_tiles(attention, slot, key_slots, key_warp, key_warps, shift);
      const int state = tile_row * parts + key_warp;
      attention.store(reinterpret_cast<float*>(slot), unit_.shared.row_max + state,
                      unit_.shared.row_sum + state, parts, num_rows - tile_row);
    }
    __syncthreads();
    combine(first_row, num_rows, parts, shift);
  }

  /// The tiles of keys of one warp, in its one or two slots. Before a tile is attended the pages of
  /// the one that follows in its slot are looked up.
  __device__ void attend_tiles(WarpAttention<T, kHeadDim>& attention, std::byte* slot,
                               int key_slots, int key_warp, int key_warps, int shift) const {
    using Warp = WarpAttention<T, kHeadDim>;
    const bool two = key_warp + key_warps < key_slots;
    std::byte* other_slot = slot + (key_warps << shift) * kSlotBytes;
    // In tiles of the team: all blocks get as many, one of them more or less.
    const std::int32_t end = (num_keys_ - 1) / kKeysPerTile + 1;
    const std::int32_t step = key_slots * unit_.team.size();
    const auto locate = [&](std::int32_t tile) {
      return attention.locate(keys_, tile * kKeysPerTile, tile < end ? num_keys_ : 0);
    };
    const auto request = [&](const typename Warp::Place& place, std::int32_t tile, std::byte* to) {
      typename Warp::Tile requested{};
      if (tile < end) requested = attention.request(place, to);
      commit_copies();
      if (!two) commit_copies();  // an empty group: wait_for_groups<1> waits for the tile
      return requested;
    };
    std::int32_t tile = key_warp * unit_.team.size() + unit_.team.rank();
    std::int32_t other_tile = two ? tile + key_warps * unit_.team.size() : end;
    const auto place = locate(tile);
    const auto other_place = locate(other_tile);
    auto requested = request(place, tile, slot);
    typename Warp::Tile other_requested{};
    if (two) other_requested = request(other_place, other_tile, other_slot);
#pragma unroll 1
    while (tile < end) {
      const std::int32_t next_tile = tile + step;
      const auto next = locate(next_tile);
      wait_for_groups<1>();
      attention.attend(requested, slot);
      requested = request(next, next_tile, slot);
      tile = next_tile;
      if (two) {
        rotate(tile, other_tile);
        rotate(requested, other_requested);
        rotate(slot, other_slot);
      }
    }
  }

  template <typename U>
  __device__ static void rotate(U& a, U& b) {
    const U rotated = a;
    a = b;
    b = rotated;
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
#pragma unroll 1
    for (int i = thread() * 4; i < num_rows * kHeadDim; i += kDecodeThreads * 4) {
      const int row = i / kHeadDim;
      const int d = i % kHeadDim;
      const float* const row_max = unit_.shared.row_max + row * parts;
      const float* const row_sum = unit_.shared.row_sum + row * parts;
      const std::byte* const out = unit_.shared.slots + row / kRowsPerTile * kSlotBytes +
                                   (row % kRowsPerTile * kOutPitch<kHeadDim> + d) * sizeof(float);
      const int pitch = kSlotBytes << shift;
      const MergedState merged(
          parts, [&](int p) { return make_float2(row_max[p], row_sum[p]); },
          [&](int p) { return *reinterpret_cast<const float4*>(out + p * pitch); });
      if (size == 1) {
        write(first_row + row, d, merged);
        continue;
      }
      const int to = i >> slice_shift;
      unit_.team.send(to, (rank << slice_shift) + i - (to << slice_shift), merged.value);
      if (d / 4 < size) {
        unit_.team.send(d / 4, state_at(rank, row, num_rows), make_float2(merged.max, merged.sum));
      }
    }
    if (size == 1) return;
    unit_.team.receive();
    const int pairs = slice_pairs(num_rows);
#pragma unroll 1
    for (int i = thread() * 4; i < pairs; i += kDecodeThreads * 4) {
      const int pair = (rank << slice_shift) + i;
      const int row = pair / kHeadDim;
      const MergedState merged(
          size,
          [&](int p) { return unit_.team.template inbox<float2>(state_at(p, row, num_rows)); },
          [&](int p) { return unit_.team.template inbox<float4>((p << slice_shift) + i); });
      write(first_row + row, pair % kHeadDim, merged);
    }
  }

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
    if (params_.lse && d == 0) {
      constexpr float kLog2 = 0.693147181f;
      params_.lse[out_row * params_.lse_row_stride + head] =
          state.sum == 0.f ? -INFINITY : (state.max + log2f(state.sum)) * kLog2;
    }
  }

  __device__ void count_attended() const {
    std::int32_t triples = 0;
#pragma unroll 1
    for (int row = 0; row < unit_.rows; ++row) {
      AttendedKeys of_row = keys_;
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
  AttendedKeys keys_;
  std::int32_t num_keys_;
};

}  // namespace hip_attn::cuda
