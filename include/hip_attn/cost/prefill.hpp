/// The work of prefill, as the kernels divide it over a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

#include "hip_attn/attention.hpp"
#include "hip_attn/config.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cost/gpu.hpp"
#include "hip_attn/cost/reads.hpp"

namespace hip_attn {

enum class PrefillSearch : int {
  kNone,       ///< nothing is searched
  kHopper,     ///< descents and centre keys by wgmma, compute capability 9.0
  kDense,      ///< landmarks and every key as dense products, compute capability 9.0
  kPortable,   ///< by mma.sync in shared memory
  kWorkspace,  ///< by mma.sync in the workspace, because shared memory does not hold a unit
  kRows,       ///< with the logits of every row in the workspace
};

struct PrefillKernels {
  PrefillSearch search = PrefillSearch::kNone;
  bool hopper_attend = false;
  int search_blocks = 1;  ///< thread blocks of the search that share a multiprocessor
};

/// A call of `batch` requests alike: the last `rows` of `context` keys each.
struct PrefillCall {
  std::int64_t batch = 1;
  std::int64_t context = 0;
  std::int64_t rows = 0;
  std::int64_t num_q_heads = 1;
  std::int64_t num_kv_heads = 1;
  std::int64_t head_dim = 128;
  std::int64_t element_bytes = 2;
  std::int64_t dense_until = 0;  ///< AttentionPlan::dense_until

  [[nodiscard]] std::int64_t group() const { return num_q_heads / num_kv_heads; }
};

/// KV heads that search and attention work on at the same time: as many as share the L2 cache. More
/// at once balance short prompts better; a head that does not fit alone is gathered from memory
/// anyway.
inline std::int64_t prefill_heads_at_once(std::int64_t max_seq_len, std::int64_t head_dim,
                                          std::int64_t element_bytes, std::int64_t num_kv_heads) {
  constexpr std::int64_t kBytes = std::int64_t{32} << 20;  // of 50 (H100) or 60 MB (H200)
  const std::int64_t head_bytes =
      std::max<std::int64_t>(1, 2 * max_seq_len * head_dim * element_bytes);
  return std::clamp<std::int64_t>(kBytes / head_bytes, 1, num_kv_heads);
}

/// The work of a call, by stage, and what it reads.
struct PrefillWork {
  int num_stages = 0;
  std::array<CostWork, kMaxStages> stages;
  CostWork launch;  ///< of the search
  CostWork attend;
  std::array<double, kMaxStages> reads{};  ///< keys or landmarks of a stage, over all units
  double attended = 0.;                    ///< keys, over all units
  double units = 0.;
  double searching_units = 0.;

  [[nodiscard]] CostWork search() const {
    CostWork sum = launch;
    for (int s = 0; s < num_stages; ++s) sum.add(stages[static_cast<std::size_t>(s)]);
    return sum;
  }
};

namespace detail {

inline constexpr std::int64_t kTileRows = 64;  // of a product by wgmma

inline std::int64_t padded(std::int64_t count, std::int64_t to) { return ceil_div(count, to) * to; }

/// Query rows that a thread block of attention takes on compute capability 9.0
/// (cuda/launch/attend_sm90.cuh).
inline std::int64_t attend_rows(std::int64_t rows, std::int64_t units, std::int64_t head_dim,
                                int multiprocessors) {
  const bool few = units * (rows / 256 + 1) * 2 <= multiprocessors;
  if (few || rows <= 64) return 64;
  return rows > 128 && head_dim <= 128 ? 256 : 128;
}

/// How much longer `blocks` thread blocks take than if all `multiprocessors` had work throughout:
/// they are fewer, or half of the `last` that run at the end have nothing to do.
inline double imbalance(double blocks, double multiprocessors, double last) {
  if (blocks < multiprocessors) return multiprocessors / blocks;
  return 1. + 0.5 * last / blocks;
}

/// How much longer the busiest of `teams` works than the mean, where team t takes the units t,
/// t + teams, ... (cuda/search/kernel.cuh, search_units): heads_at_once KV heads side by side, then
/// the next, of each the last selection rows first. `weights`: the work of a unit of each selection
/// row.
inline double fixed_order_imbalance(const std::vector<double>& weights, std::int64_t heads,
                                    std::int64_t heads_at_once, std::int64_t teams) {
  const auto rows = static_cast<std::int64_t>(weights.size());
  std::vector<double> loads(static_cast<std::size_t>(std::min(teams, rows * heads)), 0.);
  std::size_t team = 0;
  for (std::int64_t first = 0; first < heads; first += heads_at_once) {
    const std::int64_t side_by_side = std::min(heads_at_once, heads - first);
    for (std::int64_t row = rows - 1; row >= 0; --row) {
      for (std::int64_t head = 0; head < side_by_side; ++head) {
        loads[team] += weights[static_cast<std::size_t>(row)];
        if (++team == loads.size()) team = 0;
      }
    }
  }
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.);
  const double most = *std::max_element(loads.begin(), loads.end());
  return sum > 0. ? most * static_cast<double>(loads.size()) / sum : 1.;
}

}  // namespace detail

/// The kernels that a plan takes for units of up to block_q rows: what cuda/launch/prefill.cuh
/// decides on a device, from shared memory.
inline PrefillKernels assumed_prefill_kernels(const HipConfig& config, const PrefillCall& call,
                                              const GpuProperties& gpu, bool portable = false) {
  PrefillKernels kernels;
  const bool hopper = gpu.has_hopper_kernels() && !portable;
  kernels.hopper_attend = hopper;
  if (config.is_dense() || config.is_window_only()) return kernels;
  const SearchPlan plan = make_search_plan(config, call.context);
  const std::int64_t positions = std::min<std::int64_t>(config.block_q, call.batch * call.rows);
  std::int64_t list = plan.max_selected_blocks;
  std::int64_t most = 0;
  bool needs_rows = false;
  bool dense = true;
  const std::int64_t tile = hopper ? detail::kTileRows : 16;
  for (int s = 0; s < plan.num_stages; ++s) {
    const StagePlan& stage = plan.stages[s];
    list = std::max<std::int64_t>(list, stage.max_survivors);
    const std::int64_t rows = detail::padded(
        std::min(positions, std::int64_t{config.block_q / stage.query_stride}) * call.group(),
        tile);
    most = std::max(most, rows * call.head_dim * 2 + 4 * std::int64_t{stage.max_chunks});
    const bool keys = stage.rule == ScanRule::kEveryKey;
    const bool landmarks = stage.rule == ScanRule::kLandmark;
    needs_rows = needs_rows || keys || stage.needs_row_logits();
    dense = dense && stage.reduction == Reduction::kSoftmaxSum &&
            (landmarks || (keys && s > 0 && stage.chunk_shift >= 3 && stage.chunk_shift <= 6));
  }
  // Two lists, 16 keys on their way to each of eight warps, and about 9 KB in which a select works.
  const std::int64_t bytes =
      8 * list + most + (hopper ? 8 * 16 * call.head_dim * 2 + 1024 : 0) + 9216;
  const std::int64_t half = call.head_dim <= 128 ? gpu.shared_bytes / 2 - 1024 : 0;
  kernels.search_blocks = bytes <= half ? 2 : 1;
  const std::int64_t ring = 2 * 3 * 64 * call.head_dim * 2;
  // Besides the select, 2 KB that say where the rows of the next steps lie.
  const std::int64_t dense_bytes = 1024 + ring + 8 * list + 9216 + 2048;
  if (dense && hopper && dense_bytes <= gpu.shared_bytes - 1024) {
    kernels.search = PrefillSearch::kDense;
    kernels.search_blocks = dense_bytes <= half ? 2 : 1;
  } else if (needs_rows) {
    kernels.search = PrefillSearch::kRows;
    kernels.search_blocks = call.head_dim <= 128 ? 2 : 1;
  } else if (bytes > gpu.shared_bytes - 1024) {
    kernels.search = PrefillSearch::kWorkspace;
    kernels.search_blocks = call.head_dim <= 128 ? 2 : 1;
  } else {
    kernels.search = hopper ? PrefillSearch::kHopper : PrefillSearch::kPortable;
  }
  return kernels;
}

/// The term that counts how often all thread blocks of a search run a stage, one after another.
inline CostTerm stage_wave_term(PrefillSearch search) {
  return search == PrefillSearch::kHopper  ? CostTerm::kSearchStages
         : search == PrefillSearch::kDense ? CostTerm::kDenseSearchStages
                                           : CostTerm::kPortableSearchStages;
}

/// The work of one stage of one unit, on a GPU that has nothing else to wait for. Adds nothing for
/// a stage that does not run.
inline void add_stage_work(const StageReads& stage, const PrefillKernels& kernels,
                           std::int64_t head_dim, std::int64_t element_bytes, CostWork& work) {
  if (!stage.runs) return;
  const auto rows_read = static_cast<double>(stage.rows_read());
  const std::int64_t tile =
      kernels.search == PrefillSearch::kHopper || kernels.search == PrefillSearch::kDense
          ? detail::kTileRows
          : 16;
  const auto rows = static_cast<double>(detail::padded(stage.pooled_rows, tile));
  const double megabytes = rows_read * static_cast<double>(head_dim * element_bytes) * 1e-6;
  const double gigaflops = rows_read * rows * 2. * static_cast<double>(head_dim) * 1e-9;
  switch (kernels.search) {
    case PrefillSearch::kNone:
      return;
    case PrefillSearch::kHopper:
      work[CostTerm::kSearchProducts] += gigaflops;
      work[CostTerm::kSearchKeys] += megabytes;
      if (kernels.search_blocks == 1) work[CostTerm::kSearchKeysAlone] += megabytes;
      return;
    case PrefillSearch::kPortable:
      work[CostTerm::kPortableSearchProducts] += gigaflops;
      work[CostTerm::kPortableSearchKeys] += megabytes;
      return;
    case PrefillSearch::kWorkspace:
      work[CostTerm::kWorkspaceSearchProducts] += gigaflops;
      return;
    case PrefillSearch::kDense:
      work[CostTerm::kDenseSearchProducts] += gigaflops;
      work[stage.rule == ScanRule::kLandmark ? CostTerm::kDenseSearchLandmarks
                                             : CostTerm::kDenseSearchLogits] +=
          static_cast<double>(stage.reads) * rows * 1e-6;
      return;
    case PrefillSearch::kRows:
      work[CostTerm::kRowSearchLogits] += static_cast<double>(stage.chunks) * rows * 1e-6;
      return;
  }
}

/// The work of attention of one unit of `rows` query rows to `keys` keys.
inline void add_attend_work(std::int64_t keys, std::int64_t rows, std::int64_t block_rows,
                            const PrefillKernels& kernels, std::int64_t head_dim,
                            std::int64_t element_bytes, CostWork& work) {
  const auto padded_rows = static_cast<double>(detail::padded(rows, block_rows));
  const auto read = static_cast<double>(detail::padded(keys, detail::kTileRows));
  const double gigaflops = padded_rows * read * 4. * static_cast<double>(head_dim) * 1e-9;
  if (!kernels.hopper_attend) {
    work[CostTerm::kPortableAttendProducts] += gigaflops;
    return;
  }
  const double blocks = padded_rows / static_cast<double>(block_rows);
  work[CostTerm::kAttendProducts] += gigaflops;
  work[CostTerm::kAttendLogits] += padded_rows * read * 1e-6;
  work[CostTerm::kAttendKeys] +=
      blocks * read * 2. * static_cast<double>(head_dim * element_bytes) * 1e-6;
  // A second thread block of the multiprocessor covers start and end of the first.
  work[CostTerm::kAttendUnits] += (block_rows == 64 && head_dim <= 128 ? 0.5 : 1.) * blocks * 1e-3;
}

/// The work of a call. A request's query blocks are looked at one by one, or, of more than 16384,
/// every n-th for n, so that no length takes long.
inline PrefillWork prefill_work(const HipConfig& config, const PrefillCall& call,
                                const PrefillKernels& kernels, const GpuProperties& gpu) {
  constexpr std::int64_t kMostLooks = 16384;
  constexpr std::int64_t kMostUnits = std::int64_t{1} << 22;
  PrefillWork work;
  work.num_stages = config.is_window_only() ? 0 : config.num_stages();
  const std::int64_t block_q = config.block_q;
  const std::int64_t first = call.context - call.rows;
  const std::int64_t query_blocks = ceil_div(call.context, block_q) - first / block_q;
  const double heads = static_cast<double>(call.batch * call.num_kv_heads);
  const std::int64_t unit_rows = block_q * call.group();
  const std::int64_t units_there =
      (call.batch * call.rows / block_q + 2 * call.batch) * call.num_kv_heads;
  const std::int64_t block_rows =
      kernels.hopper_attend
          ? detail::attend_rows(unit_rows, units_there, call.head_dim, gpu.multiprocessors)
          : 64;
  const std::int64_t step = ceil_div(query_blocks, kMostLooks);
  std::array<double, kMaxStages> stage_units{};
  double attend_blocks = 0.;
  std::vector<double> row_weights;  // of the units of one request, one for each query block
  for (std::int64_t n = 0; n < query_blocks; n += step) {
    const double times = heads * static_cast<double>(std::min(step, query_blocks - n));
    const std::int64_t block = first / block_q + std::min(n + step / 2, query_blocks - 1);
    const std::int64_t p0 = std::max(first, block * block_q);
    const std::int64_t positions = std::min(call.context, (block + 1) * block_q) - p0;
    UnitReads unit = unit_reads(config, call.group(), positions, p0);
    const bool dense = p0 < call.dense_until && !config.is_window_only();
    if (dense) {
      unit.attended = p0 + positions;
      unit.num_stages = 0;
    }
    work.units += times;
    work.searching_units += unit.searches() ? times : 0.;
    work.attended += times * static_cast<double>(unit.attended);
    CostWork attend;
    add_attend_work(unit.attended, positions * call.group(), block_rows, kernels, call.head_dim,
                    call.element_bytes, attend);
    work.attend.add(attend, times);
    attend_blocks += times * static_cast<double>(ceil_div(positions * call.group(), block_rows));
    row_weights.push_back(0.);
    for (int s = 0; s < unit.num_stages; ++s) {
      const auto at = static_cast<std::size_t>(s);
      row_weights.back() += static_cast<double>(unit.stages[at].rows_read());
      CostWork of_stage;
      add_stage_work(unit.stages[at], kernels, call.head_dim, call.element_bytes, of_stage);
      work.stages[at].add(of_stage, times);
      work.reads[at] += times * static_cast<double>(unit.stages[at].reads);
      if (unit.stages[at].runs) stage_units[at] += times;
    }
  }

  // Thread blocks that run at once, and what a call of few units leaves idle.
  const double multiprocessors = gpu.multiprocessors;
  CostWork balanced;
  balanced.add(work.attend, detail::imbalance(attend_blocks, multiprocessors, 0.));
  work.attend = balanced;
  work.attend[kernels.hopper_attend ? CostTerm::kAttendLaunch : CostTerm::kPortableAttendLaunch] =
      1.;
  if (kernels.search == PrefillSearch::kNone || work.searching_units == 0.) return work;

  const double slots = multiprocessors * kernels.search_blocks;
  const bool clusters =
      kernels.search == PrefillSearch::kHopper || kernels.search == PrefillSearch::kDense;
  double cluster = 1.;
  while (clusters && cluster < 8. &&
         2. * cluster * static_cast<double>(units_there) <= multiprocessors) {
    cluster *= 2.;
  }
  // Kernels that hold so many thread blocks and no more take units in a fixed order. Of very many
  // units every thread block gets its share.
  const auto teams = static_cast<std::int64_t>(slots);
  const bool fixed_order = kernels.search != PrefillSearch::kHopper &&
                           kernels.search != PrefillSearch::kPortable && step == 1 &&
                           units_there > teams && units_there < kMostUnits;
  double fixed = 1.;
  if (fixed_order) {
    std::vector<double> weights(
        static_cast<std::size_t>(selection_row(call.batch * call.rows, call.batch, 0, block_q)));
    for (std::int64_t b = 0; b < call.batch; ++b) {
      const auto begin = static_cast<std::ptrdiff_t>(selection_row(b * call.rows, b, 0, block_q));
      std::copy(row_weights.begin(), row_weights.end(), weights.begin() + begin);
    }
    const std::int64_t heads_at_once =
        prefill_heads_at_once(call.context, call.head_dim, call.element_bytes, call.num_kv_heads);
    fixed = detail::fixed_order_imbalance(weights, call.num_kv_heads, heads_at_once, teams);
  }
  const CostTerm waves = stage_wave_term(kernels.search);
  for (int s = 0; s < work.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    if (stage_units[at] == 0.) continue;
    CostWork spread;
    const double uneven =
        fixed_order ? fixed : detail::imbalance(stage_units[at] * cluster, multiprocessors, slots);
    spread.add(work.stages[at], uneven);
    spread[waves] = std::max(1., stage_units[at] / slots + 0.5);
    work.stages[at] = spread;
  }
  work.launch[kernels.search == PrefillSearch::kDense ? CostTerm::kDenseSearchLaunch
                                                      : CostTerm::kSearchLaunch] = 1.;
  return work;
}

}  // namespace hip_attn
