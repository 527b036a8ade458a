/// What a decode kernel does while the upstream kernel of its dependent launch still runs: it asks
/// L2 for the keys that it will attend to if its requests reuse their selections.
#pragma once

#include <climits>
#include <cstdint>

#include "hip_attn/cuda/decode/params.hpp"
#include "hip_attn/cuda/decode/unchecked_keys.cuh"
#include "hip_attn/cuda/decode/unit.cuh"
#include "hip_attn/cuda/ptx/global_memory.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"

namespace hip_attn::cuda {

/// The upstream kernel may be about to write what is read here. Lengths, cache and block table are
/// read past L1, may be old or not of one step, and say only which lines of L2 to ask for, all of
/// them in pages. Whoever uses a key reads and checks all this again.
///
/// The teams of a launch start in order, the last ones when the upstream kernel has all but ended.
/// So the first half of them asks for the keys of the second half and then for its own. It asks for
/// few at a time: meanwhile L2 serves the upstream kernel more slowly (docs/lab/decode.md).
template <typename Traits, typename Team>
class KeysAhead {
 public:
  using Stored = StoredOf<Traits>;
  using Params = DecodeParams<Stored>;

  __device__ KeysAhead(const Params& params, const Team& team) : params_(params), team_(team) {}

  /// By the last kAheadWarps warps; the others may pass.
  __device__ void ask() const {
    const int units = static_cast<int>(gridDim.y * gridDim.z);
    const int unit = static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y);
    if (unit >= units / 2 || decode_thread() < kFirstAheadThread) return;
    ask_for(unit + units / 2);
    if (!team_.upstream_has_ended()) ask_for(unit);
  }

 private:
  /// A quarter of a unit's keys for each warp, 32 at a time. Written out: with a loop here ptxas
  /// spills in the search.
  __device__ void ask_for(int unit) const {
    const auto heads = static_cast<int>(gridDim.y);
    const int request = unit / heads;
    const int kv_head = unit - request * heads;
    const auto& cache = params_.cache;
    const auto slot =
        static_cast<std::uint32_t>(cache.slots ? read_hint(cache.slots + request) : request);
    if (slot >= cache.num_slots) return;
    const std::int32_t* const entry = cache_entry(cache, slot, kv_head);
    const std::int32_t* const survivors = entry + params_.last_stage.cache_word;
    const std::int32_t refresh_from = read_hint(cache.refresh_from + request);
    const std::int32_t rows = read_hint(params_.tensors.cu_seqlens_q + request + 1) -
                              read_hint(params_.tensors.cu_seqlens_q + request);
    UncheckedKeys keys;
    keys.sink_end = params_.search.sink;
    keys.blocks = survivors + 1;
    keys.num_blocks = read_hint(survivors);
    keys.start_shift = 0;
    keys.block_shift = params_.search.block_shift;
    keys.window_start = read_hint(entry + CacheLayout::kWindowStart);
    keys.end = read_hint(params_.tensors.seq_lens + request);
    if (refresh_from < params_.search.num_stages || rows != 1 ||
        !is_below(keys.num_blocks, params_.last_stage.max_survivors + 1)) {
      return;
    }
    const KvRows<Stored> kv(params_.tensors.kv, request, kv_head);
    const int warp = (decode_thread() - kFirstAheadThread) / 32;
#pragma unroll
    for (int i = 0; i < kMostKeys / 32 / kAheadWarps; ++i) {
      const std::int32_t key =
          ((i * kAheadWarps + warp) * team_.size() + team_.rank()) * 32 + decode_thread() % 32;
      if (team_.upstream_has_ended() | (key >= keys.count())) return;
      ask_for_key(keys, kv, key);
    }
  }

  __device__ void ask_for_key(const UncheckedKeys& keys, const KvRows<Stored>& kv,
                              std::int32_t key) const {
    const std::int32_t number = (key - keys.sink_end) >> keys.block_shift;
    ListedBlock block{0, INT_MIN};
    if (is_below(number, keys.num_blocks)) block.start = read_hint(keys.blocks + number);
    const std::int32_t position = keys.checked_position(key, block);
    if (!is_below(position, params_.max_seq_len)) return;
    const RowSlot slot = kv.pages.slot(position, kv.pages.page_hint(position));
    if (slot.page < 0) return;
    ask_for_row(kv.keys.row(slot));
    ask_for_row(kv.values.row(slot));
  }

  __device__ static void ask_for_row(const Stored* row) {
    constexpr int kLine = 128 / sizeof(Stored);
#pragma unroll
    for (int d = 0; d < Traits::kHeadDim; d += kLine) {
      prefetch_to_l2(row + d);
    }
  }

  /// Of a block, at most.
  static constexpr int kMostKeys = kSlotsPerWarp * kDecodeWarps * kKeysPerTile;
  static_assert(kMostKeys % (32 * kAheadWarps) == 0);

  const Params& params_;
  const Team& team_;
};

}  // namespace hip_attn::cuda
