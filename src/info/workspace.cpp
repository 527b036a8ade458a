#include "workspace.hpp"

#include <algorithm>
#include <cstdint>

#include "hip_attn/carver.hpp"
#include "hip_attn/core/search_plan.hpp"

namespace hip_attn::info {
namespace {

std::int64_t up_to(std::int64_t count, std::int64_t multiple) {
  return ceil_div(count, multiple) * multiple;
}

std::int64_t pooled_rows(const AttentionPlan& plan, const StagePlan& stage) {
  const std::int64_t group = plan.shape.num_q_heads / plan.shape.num_kv_heads;
  const std::int64_t positions =
      std::min<std::int64_t>(plan.config.block_q, std::max<std::int64_t>(1, plan.shape.total_q));
  return std::min<std::int64_t>(positions, plan.config.block_q / stage.query_stride) * group;
}

std::int64_t list_length(const SearchPlan& search) {
  std::int64_t length = search.max_selected_blocks;
  for (int s = 0; s < search.num_stages; ++s)
    length = std::max<std::int64_t>(length, search.stages[s].max_survivors);
  return length;
}

// cuda/search/dense_masses.cuh
std::int64_t dense_team_bytes(const AttentionPlan& plan, const SearchPlan& search) {
  std::int64_t most = 0;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    const std::int64_t per_step =
        stage.rule == ScanRule::kLandmark ? 32 : 64 >> std::min(stage.chunk_shift, 6);
    const std::int64_t rows = up_to(pooled_rows(plan, stage), 64);
    const std::int64_t steps = ceil_div(stage.max_chunks, per_step);
    most = std::max(most, rows * (2 * up_to(stage.max_chunks, 32) + 4 * up_to(steps, 2) +
                                  8 * ceil_div(stage.max_chunks, 64)));
  }
  return up_to(most, 256);
}

// cuda/search/row_kernel.cuh and kernel.cuh
std::int64_t block_bytes(const AttentionPlan& plan, const SearchPlan& search, bool logits) {
  std::int64_t most = 0;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    const std::int64_t rows = pooled_rows(plan, stage);
    const std::int64_t padded = up_to(rows, 16);
    std::int64_t bytes = padded * plan.shape.head_dim * 2 + up_to(4 * stage.max_chunks, 32);
    if (logits) {
      bytes += padded * up_to(stage.max_chunks, 32) * 4 + up_to(8 * rows, 32) +
               up_to(8 * rows * ceil_div(stage.max_chunks, 64), 32);
    }
    most = std::max(most, bytes);
  }
  return up_to(8 * list_length(search), 32) + most;
}

}  // namespace

std::size_t assumed_prefill_workspace(const AttentionPlan& plan, const PrefillKernels& kernels,
                                      const GpuProperties& gpu) {
  Carver carver(nullptr);
  const std::int64_t units = plan.selection_rows * plan.shape.num_kv_heads;
  carver.take<std::int32_t>(units);
  carver.take<std::int32_t>(units);
  carver.take<std::int32_t>(units * plan.max_selected_blocks);
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  const std::int64_t teams =
      std::clamp<std::int64_t>(units, 1, std::int64_t{gpu.multiprocessors} * kernels.search_blocks);
  if (kernels.search == PrefillSearch::kDense)
    carver.take<std::byte>(teams * dense_team_bytes(plan, search));
  if (kernels.search == PrefillSearch::kRows || kernels.search == PrefillSearch::kWorkspace) {
    carver.take<std::byte>(teams *
                           block_bytes(plan, search, kernels.search == PrefillSearch::kRows));
  }
  return carver.bytes();
}

// cuda/launch/decode.cuh, carve().
std::size_t assumed_decode_workspace(const AttentionPlan& plan, const DecodeTeams& teams) {
  const SearchPlan search = make_search_plan(plan.config, plan.shape.max_seq_len);
  const std::int64_t group = plan.shape.num_q_heads / plan.shape.num_kv_heads;
  const std::int64_t query_rows = std::min(kMaxDecodeRows, plan.shape.total_q);
  const std::int64_t rows = std::min<std::int64_t>(query_rows * group, 128);
  const std::int64_t units = std::max<std::int64_t>(1, plan.shape.batch * plan.shape.num_kv_heads);
  const std::int64_t exchange = 2 * rows * plan.shape.head_dim + 16 * 8 + 16 * rows * 2;
  std::int64_t row_logits = 0;
  std::int64_t tile_masses = 0;
  for (int s = 0; s < search.num_stages; ++s) {
    const StagePlan& stage = search.stages[s];
    if (stage.reduction != Reduction::kSoftmaxSum) continue;
    const std::int64_t pooled = ceil_div(query_rows, stage.query_stride) * group;
    row_logits = std::max(row_logits, pooled * up_to(stage.max_chunks, 4));
    tile_masses = std::max(tile_masses, pooled * ceil_div(stage.max_chunks, 64));
  }
  Carver carver(nullptr);
  carver.take<std::uint32_t>(units);
  carver.take<float>(units * 2 * up_to(search.max_chunks, 16));
  carver.take<float>(units * teams.size * exchange);
  carver.take<float>(units * 2 * row_logits);
  carver.take<float>(units * 2 * tile_masses);
  const std::int64_t list = list_length(search);
  if (list > 2048) carver.take<std::int32_t>(units * teams.size * 2 * list);
  return carver.bytes();
}

}  // namespace hip_attn::info
