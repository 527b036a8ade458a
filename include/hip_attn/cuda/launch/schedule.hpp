/// How a plan's units are spread over the GPU: what the launchers keep in AttentionPlan::schedule.
#pragma once

#include "hip_attn/attention.hpp"
#include "hip_attn/cuda/launch/copy_shares.hpp"

namespace hip_attn::cuda {

struct DecodeSchedule {
  int team_size = 1;       ///< thread blocks that work on one unit (request, KV head)
  int num_teams = 1;       ///< teams that a launch has
  bool clusters = false;   ///< teams are thread-block clusters, else a cooperative launch
  int row_tile_shift = 0;  ///< log2 of the tiles of query rows that a thread block takes at once
  int key_slots = 1;       ///< tiles of 16 keys and values that fit shared memory
};

struct PrefillSchedule {
  /// Thread blocks of a search that works in the workspace, because its configuration does not fit
  /// shared memory or needs the logits of single rows; 0: another search.
  int search_blocks = 0;
  /// Search with the dense kernel for compute capability 9.0, by as many thread blocks.
  int dense_search_blocks = 0;
  /// Search, and attend, with the kernels for compute capability 9.0; false: with those for 8.0 and
  /// newer, to which a plan may always be set.
  bool sm90_search = false;
  bool sm90_attend = false;
  int multiprocessors = 0;  ///< of the device
  StagedKernels staged;     ///< of a plan with staging_bytes
};

/// A plan of decode, or of prefill, that a launcher has made.
inline DecodeSchedule decode_schedule(const AttentionPlan& plan) {
  return plan.schedule.get<DecodeSchedule>();
}
inline PrefillSchedule prefill_schedule(const AttentionPlan& plan) {
  return plan.schedule.get<PrefillSchedule>();
}

/// Keeps a plan from kernels that only some GPUs have: prefill from those for compute capability
/// 9.0, decode from thread-block clusters. Results of prefill then differ in their last bits.
inline void use_portable_kernels(AttentionPlan& plan) {
  if (plan.op == Operator::kDecode) {
    DecodeSchedule schedule = decode_schedule(plan);
    schedule.clusters = false;
    plan.schedule.set(schedule);
  } else {
    PrefillSchedule schedule = prefill_schedule(plan);
    schedule.sm90_search = schedule.sm90_attend = false;
    schedule.dense_search_blocks = 0;
    plan.schedule.set(schedule);
  }
}

}  // namespace hip_attn::cuda
