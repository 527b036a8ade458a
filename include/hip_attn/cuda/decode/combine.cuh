/// Stage "combine" of decode: a team merges the partial softmax states of one pass over query rows
/// in slices of (row, dim) pairs, one for each block.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode/merged_state.cuh"
#include "hip_attn/cuda/decode/unit.cuh"
#include "hip_attn/cuda/decode/warp_attention.cuh"
#include "hip_attn/cuda/ptx/convert.cuh"
#include "hip_attn/cuda/ptx/register.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/query_rows.cuh"

namespace hip_attn::cuda {

/// The rows of a pass, and the warps of a block that have attended to them: warp p << shift has
/// part p of `parts` of the first eight rows, the next warp the same of the next eight.
struct PassRows {
  int first;
  int count;
  int shift;
  int parts;
};

/// kAtOnce: the team has several blocks, and a thread merges four values at most. Everything that
/// does not depend on values is found by the constructor.
template <typename Traits, typename Team, bool kAtOnce>
class DecodeCombine {
 public:
  using Element = typename Traits::Element;
  static constexpr int kHeadDim = Traits::kHeadDim;
  using Unit = DecodeUnit<Traits, Team>;

  __device__ DecodeCombine(Unit& unit, const PassRows& rows)
      : params_(unit.params),
        unit_(unit),
        rows_(rows),
        shares_(rows.count * kHeadDim),
        slice_shares_(slice_pairs()),
        share_(block_share(shares_.first)),
        slice_share_(team_share(slice_shares_.first)) {}

  /// Tells the team how much this block will be sent for the pass; by one thread.
  __device__ static void expect(const Unit& unit, int num_rows) {
    const int floats = slice_pairs(unit, num_rows) + 2 * num_rows;
    unit.team.expect(unit.team.size() * floats * static_cast<int>(sizeof(float)));
  }

  /// Merges the warps of this block, then the blocks of the team, in fixed order, and writes. All
  /// warps have stored their states.
  __device__ void run() {
    merge_warps();
    if (kAtOnce || unit_.team.size() > 1) merge_blocks();
  }

 private:
  __device__ static int thread() { return decode_thread(); }

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

  /// Where four dims of a row are written; lse null: not.
  struct Target {
    std::byte* out;
    float* lse;
  };
  using Mailbox = typename Team::Mailbox;

  /// Four values of a row that a thread merges of the block's warps, and where they go.
  struct BlockShare {
    std::uint32_t states;  ///< of the first warp, in shared memory
    std::uint32_t values;
    Mailbox to;
    Mailbox states_to;
    bool sends_states;
  };

  /// Four values of a row of this block's slice that a thread merges of the team's blocks.
  struct TeamShare {
    int states;  ///< in the inbox, of the first block
    int values;
    Target target;
  };

  // ---- The block's warps ------------------------------------------------------------------------

  __device__ BlockShare block_share(int i) const {
    const auto at = static_cast<unsigned>(min(i, rows_.count * kHeadDim - 4));
    const auto row = static_cast<int>(at / kHeadDim);
    const auto d = static_cast<int>(at % kHeadDim);
    const int rank = unit_.team.rank();
    const int slice_shift = params_.slice_shift;
    const auto to = static_cast<int>(at >> slice_shift);
    BlockShare share;
    share.states = in_register(shared_address(unit_.shared.states + row * rows_.parts));
    share.values =
        in_register(shared_address(unit_.shared.slots + at / kHeadDim / kRowsPerTile * kSlotBytes) +
                    (at / kHeadDim % kRowsPerTile * kOutPitch<kHeadDim> + d) * 4);
    share.to =
        unit_.team.mailbox(to, (rank << slice_shift) + static_cast<int>(at) - (to << slice_shift));
    share.sends_states = d / 4 < unit_.team.size();
    share.states_to =
        unit_.team.mailbox(share.sends_states ? d / 4 : 0, states_at(row) + rank * states_pitch());
    return share;
  }

  __device__ void merge_warps() {
    static_assert(kRowsPerTile * kHeadDim <= 4 * kDecodeThreads);
    const int values = rows_.count * kHeadDim;
    const auto pitch = static_cast<std::uint32_t>(kSlotBytes << rows_.shift);
#pragma unroll 1
    for (int i = shares_.first; i - shares_.offset < values;) {
      const MergedState merged(rows_.parts, shares_.lane_shift,
                               [&](int p, bool wanted, float2& state, float4& part) {
                                 read_shared(state, share_.states + p * 8, wanted);
                                 read_shared(part, share_.values + p * pitch, wanted);
                               });
      if (shares_.writes && i < values) {
        if (!kAtOnce && unit_.team.size() == 1) [[unlikely]] {
          write(target(static_cast<unsigned>(i)), merged);
        } else {
          if (share_.sends_states) {
            Team::send(share_.states_to, make_float2(merged.max, merged.sum));
          }
          Team::send(share_.to, merged.value);
        }
      }
      if constexpr (kAtOnce) break;
      i += shares_.step;
      if (i - shares_.offset < values) share_ = block_share(i);
    }
  }

  // ---- The team's blocks ------------------------------------------------------------------------

  /// Pairs of this block's slice.
  __device__ static int slice_pairs(const Unit& unit, int num_rows) {
    const int slice = 1 << unit.params.slice_shift;
    return min(max(num_rows * kHeadDim - unit.team.rank() * slice, 0), slice);
  }
  __device__ int slice_pairs() const { return slice_pairs(unit_, rows_.count); }

  /// Where {max, sum} of `row` from the first block is received, and floats from there to that of
  /// the next. Its slice is received at 0, and that of the next block one slice behind.
  __device__ int states_at(int row) const {
    return (unit_.team.size() << params_.slice_shift) + 2 * row;
  }
  __device__ int states_pitch() const { return 2 * rows_.count; }

  __device__ TeamShare team_share(int i) const {
    const int at = min(i, slice_pairs() - 4);
    const auto pair = static_cast<unsigned>((unit_.team.rank() << params_.slice_shift) + at);
    return {states_at(static_cast<int>(pair / kHeadDim)), at, target(pair)};
  }

  __device__ void merge_blocks() {
    const int values = slice_pairs();
    unit_.team.receive();
#pragma unroll 1
    for (int i = slice_shares_.first; i - slice_shares_.offset < values;) {
      const MergedState merged(
          unit_.team.size(), slice_shares_.lane_shift,
          [&](int p, bool wanted, float2& state, float4& part) {
            unit_.team.read(state, slice_share_.states + p * states_pitch(), wanted);
            unit_.team.read(part, slice_share_.values + (p << params_.slice_shift), wanted);
          });
      if (slice_shares_.writes && i < values) write(slice_share_.target, merged);
      if constexpr (kAtOnce) break;
      i += slice_shares_.step;
      if (i - slice_shares_.offset < values) slice_share_ = team_share(i);
    }
  }

  // ---- Output -----------------------------------------------------------------------------------

  /// Of the four pairs from `pair` on.
  __device__ Target target(unsigned pair) const {
    const int row = rows_.first + static_cast<int>(pair / kHeadDim);
    const auto d = static_cast<int>(pair % kHeadDim);
    const std::int64_t out_row = unit_.out_row(row);
    const std::int64_t head = unit_.out_head(row);
    const auto& out = params_.tensors.out;
    const std::int64_t offset = out_row * out.row_stride + head * out.head_stride + d;
    auto* const place = static_cast<std::byte*>(out.data) + (offset << (is_float() ? 2 : 1));
    return {in_register(place),
            params_.tensors.lse && d == 0
                ? params_.tensors.lse + out_row * params_.tensors.lse_row_stride + head
                : nullptr};
  }

  __device__ bool is_float() const { return Team::kFloatRows && params_.tensors.out.is_float; }

  /// Normalised.
  __device__ void write(const Target& to, const MergedState& state) const {
    const float norm = state.sum == 0.f ? 0.f : __fdividef(1.f, state.sum);
    const float4 out = {state.value.x * norm, state.value.y * norm, state.value.z * norm,
                        state.value.w * norm};
    if (is_float()) [[unlikely]] {
      *reinterpret_cast<float4*>(to.out) = out;
    } else {
      *reinterpret_cast<uint2*>(to.out) = {narrow_pair<Element>(out.x, out.y),
                                           narrow_pair<Element>(out.z, out.w)};
    }
    if (to.lse) [[unlikely]] {
      constexpr float kLog2 = 0.693147181f;
      *to.lse = state.sum == 0.f ? -INFINITY : (state.max + __log2f(state.sum)) * kLog2;
    }
  }

  static constexpr int kSlotBytes = slot_bytes(kHeadDim);

  const DecodeParams<StoredOf<Traits>>& params_;
  Unit& unit_;
  PassRows rows_;
  Shares shares_;
  Shares slice_shares_;
  BlockShare share_;
  TeamShare slice_share_;
};

}  // namespace hip_attn::cuda
