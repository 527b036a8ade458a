/// Decode as one kernel: a team of blocks takes a unit (request, KV head) through scan, select,
/// attend and combine, meeting at a barrier after each stage of the search and in the combine.
/// Why one kernel, and the time of every part: docs/kernels/decode.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_attn/cuda/decode/ahead.cuh"
#include "hip_attn/cuda/decode/attend.cuh"
#include "hip_attn/cuda/decode/search.cuh"
#include "hip_attn/cuda/decode/team.cuh"
#include "hip_attn/cuda/decode/unit.cuh"

namespace hip_attn::cuda {

template <typename Traits, typename Team>
__device__ void write_selection(const DecodeUnit<Traits, Team>& unit,
                                const UnitSelection& selection) {
  const auto& out = unit.params.selection_out;
  if (!out.blocks || unit.team.rank() != 0) [[likely]]
    return;
  std::int32_t* const row =
      out.blocks + unit.request * out.blocks_row_stride + unit.kv_head * out.blocks_head_stride;
#pragma unroll 1
  for (std::int32_t i = unit.thread(); i < selection.count; i += kDecodeThreads) {
    row[i] = selection.blocks[i] << selection.start_shift >> unit.params.search.block_shift;
  }
  if (unit.thread() == 0) {
    out.counts[unit.request * out.counts_row_stride + unit.kv_head] = selection.count;
    out.window_start[unit.request * out.window_row_stride + unit.kv_head] = selection.w0;
  }
}

/// What holds in every call with DecodeParams::keys_at_once, so that the kernel for it has no code
/// for anything else.
template <typename Stored>
__device__ void assume_keys_at_once(const DecodeParams<Stored>& params) {
  __builtin_assume(params.attends_to_cache);
  __builtin_assume(params.cache.words != nullptr);
  __builtin_assume(params.selection_in.blocks == nullptr);
  __builtin_assume(params.selection_out.blocks == nullptr);
  __builtin_assume(!(params.logits.softcap_log2 > 0.f));
  __builtin_assume(params.group > 0 && params.group <= kRowsPerTile);
}

/// What follows from lengths and cache is the same in every block of the team, so that all leave
/// here or none.
template <bool kAtOnce, DecodeSearchKind kSearch, typename Traits, typename Team>
__device__ void decode_unit(DecodeUnit<Traits, Team>& unit) {
  if constexpr (kAtOnce) assume_keys_at_once(unit.params);
  // All that is read first is on its way before any of it is looked at.
  DecodeSearch<Traits, Team, kSearch> search(unit);
  DecodeAttention<Traits, Team> attention(unit);
  if (unit.params.attends_to_cache) [[likely]]
    attention.template read_early<kAtOnce>(search.cached().blocks, search.slot_holds());
  unit.kv.pages.stay_in_registers();
  unit.kv.keys.stay_in_registers();
  unit.look_at_lengths();
  search.look_at_cache();

  // A step that reuses its selection has few instructions between what is waited for.
  bool reuses = unit.params.attends_to_cache && search.expects_reuse();
  if (reuses) [[likely]] {
    attention.template look_up_early<kAtOnce>(search.cached());
    reuses = search.can_reuse() & attention.is_one_row() & (!kAtOnce || attention.fits_at_once());
  }
  if (!kAtOnce && reuses) [[likely]]
    return attention.template attend_early<kAtOnce>();

  if (!reuses) {
    if (unit.rows == 0) return;
    if (!unit.lengths_hold()) return unit.fill_rows(NAN);
    if (unit.seq_len == 0) return unit.fill_rows(0.f);  // padding
    if (unit.rows == 1) unit.request_queries();         // what every stage uses
    UnitSelection selection;
    selection.w0 = unit.window_start();
    if (unit.params.selection_in.blocks) {
      if (!search.take_given(selection)) return unit.fill_rows(NAN);
    } else if (unit.params.search.num_stages > 0) {
      if (!search.run(selection)) return unit.fill_rows(NAN);
    }
    write_selection(unit, selection);
    if (!kAtOnce || !attention.looks_up_at_once(selection))
      return DecodeAttention<Traits, Team>(unit).attend_to(selection);
  }
  // Attention of both, once in the code: a refreshed step is 3 us faster so (docs/lab/decode.md).
  if constexpr (kAtOnce) attention.template attend_early<kAtOnce>();
}

/// kAtOnce: for calls in which the team's slots mostly hold all keys that a row attends to when it
/// reuses its selection (DecodeParams::keys_at_once). Several kernels, because each path that is
/// added to one costs the others registers: 1 us of a refreshed step (docs/kernels/decode.md).
template <typename Traits, typename Team, bool kAtOnce, DecodeSearchKind kSearch>
__global__ void __launch_bounds__(kDecodeThreads, 1)
    decode_kernel(const __grid_constant__ DecodeParams<StoredOf<Traits>> params) {
  if constexpr (Team::kIsBuilt) {
    extern __shared__ __align__(128) std::byte shared_memory[];
    Team team(params, shared_memory);
    if constexpr (kAtOnce) {
      team.wait_for_upstream(params, [&] { KeysAhead<Traits, Team>(params, team).ask(); });
    } else {
      team.wait_for_upstream(params);
    }
    team.for_each_unit(params, [&](int team_number, int request, int kv_head) {
      DecodeUnit<Traits, Team> unit(params, team, team_number, request, kv_head, shared_memory);
      decode_unit<kAtOnce, kSearch>(unit);
    });
  }
}

}  // namespace hip_attn::cuda
