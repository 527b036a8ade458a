/// The kernels that search in a prefill, and the memory that they need.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "hip_attn/attention.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/cuda/search/dense_kernel.cuh"
#include "hip_attn/cuda/search/kernel.cuh"
#include "hip_attn/cuda/search/row_kernel.cuh"

namespace hip_attn::cuda {
namespace prefill_launch {

/// Everything that follows from a plan and that the launches need too.
struct PrefillSizes {
  std::int64_t group;
  std::int64_t max_rows;
  std::int64_t list_length;
  int num_scans;
  std::array<ScanSize, kMaxStages> scans;
};

inline PrefillSizes sizes_of(const AttentionPlan& plan) {
  PrefillSizes sizes{};
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  sizes.group = plan.shape.num_q_heads / plan.shape.num_kv_heads;
  const std::int64_t positions =
      std::min<std::int64_t>(plan.config.block_q, std::max<std::int64_t>(1, plan.shape.total_q));
  sizes.max_rows = positions * sizes.group;
  sizes.list_length = list_length(search);
  sizes.num_scans = search.num_stages;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    const std::int64_t pooled = plan.config.block_q / stage.query_stride;
    sizes.scans[s] = {std::min(positions, pooled) * sizes.group, stage.max_chunks};
  }
  return sizes;
}

/// A search and the memory of one of its thread blocks.
template <typename Traits>
struct Search {
  void (*kernel)(PrefillParams<StoredOf<Traits>>);
  std::size_t (*block_bytes)(const ScanSize* scans, int num_scans, std::int64_t list_length);

  std::size_t bytes(const AttentionPlan& plan) const {
    const PrefillSizes sizes = sizes_of(plan);
    return block_bytes(sizes.scans.data(), sizes.num_scans, sizes.list_length);
  }
};

template <typename Traits>
struct Searches {
  static constexpr Search<Traits> kShared = {search_kernel<Traits>, search_bytes<Traits>};
  static constexpr Search<Traits> kInWorkspace = {search_in_workspace_kernel<Traits>,
                                                  search_bytes<Traits>};
  static constexpr Search<Traits> kSm90 = {search_sm90_kernel<Traits>, sm90_search_bytes<Traits>};
  static constexpr Search<Traits> kRows = {search_rows_kernel<Traits>, row_search_bytes<Traits>};
  static constexpr Search<Traits> kDense = {search_dense_kernel<Traits>,
                                            dense_search_bytes<Traits>};
};

/// Some stage needs search_rows_kernel.
inline bool needs_row_search(const SearchPlan& search) {
  return std::any_of(search.stages, search.stages + search.num_stages, writes_row_logits);
}

/// The search that works in the workspace, where one is chosen.
template <typename Traits>
const Search<Traits>& workspace_search(const AttentionPlan& plan) {
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  return needs_row_search(search) ? Searches<Traits>::kRows : Searches<Traits>::kInWorkspace;
}

/// The search that a plan has chosen.
template <typename Traits>
const Search<Traits>& search_of(const AttentionPlan& plan, const PrefillSchedule& schedule) {
  if (schedule.dense_search_blocks > 0) return Searches<Traits>::kDense;
  if (schedule.search_blocks > 0) return workspace_search<Traits>(plan);
  return schedule.sm90_search ? Searches<Traits>::kSm90 : Searches<Traits>::kShared;
}

/// What a team of the dense search needs in the workspace.
inline std::int64_t dense_team_bytes(const AttentionPlan& plan) {
  return static_cast<std::int64_t>(dense_mass_bytes(
      make_search_plan(plan.config, plan.shape.max_seq_len), sizes_of(plan).scans.data()));
}

}  // namespace prefill_launch
}  // namespace hip_attn::cuda
