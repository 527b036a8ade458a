/// Where prefill attends to every key, because that costs less than a search and attention to what
/// it finds.
#pragma once

#include <cstdint>

#include "hip_attn/config.hpp"
#include "hip_attn/cost/gpu.hpp"
#include "hip_attn/cost/prefill.hpp"

namespace hip_attn {

/// Seconds of the whole GPU for a full unit (query block and KV head) at position p0 among many:
/// searched, or, where `dense`, attending to every key.
inline double prefill_unit_seconds(const HipConfig& config, const PrefillCall& call,
                                   const PrefillKernels& kernels, const Gpu& gpu, std::int64_t p0,
                                   bool dense) {
  const std::int64_t rows = config.block_q * call.group();
  const UnitReads unit = unit_reads(config, call.group(), config.block_q, p0);
  // Of a long call, which has many units.
  const std::int64_t block_rows =
      kernels.hopper_attend
          ? detail::attend_rows(rows, 1 << 20, call.head_dim, gpu.properties.multiprocessors)
          : 64;
  CostWork work;
  add_attend_work(dense ? p0 + config.block_q : unit.attended, rows, block_rows, kernels,
                  call.head_dim, call.element_bytes, work);
  if (!dense) {
    const double slots =
        static_cast<double>(gpu.properties.multiprocessors) * kernels.search_blocks;
    for (int s = 0; s < unit.num_stages; ++s) {
      const StageReads& stage = unit.stages[static_cast<std::size_t>(s)];
      add_stage_work(stage, kernels, call.head_dim, call.element_bytes, work);
      if (stage.runs) work[stage_wave_term(kernels.search)] += 1. / slots;
    }
  }
  return gpu.rates.seconds(work);
}

/// Seconds of a prompt of call.context keys, whose query blocks before `dense_until` attend to all.
inline double prompt_seconds(const HipConfig& config, PrefillCall call,
                             const PrefillKernels& kernels, const Gpu& gpu,
                             std::int64_t dense_until) {
  call.rows = call.context;
  call.dense_until = dense_until;
  const PrefillWork work = prefill_work(config, call, kernels, gpu.properties);
  return gpu.rates.seconds(work.search()) + gpu.rates.seconds(work.attend);
}

/// AttentionPlan::dense_until of a plan whose max_seq_len is call.context: the first position, a
/// multiple of block_q, from where on a search pays, or call.context where the longest prompt of
/// the plan would still take longer for it. Depends on the plan and not on the rows of a call, so
/// that a prompt in pieces attends as the whole. 0 where nothing is searched. Below a millisecond.
inline std::int64_t dense_until(const HipConfig& config, const PrefillCall& call,
                                const PrefillKernels& kernels, const Gpu& gpu) {
  if (config.is_dense() || config.is_window_only()) return 0;
  std::int64_t pays = call.context;
  std::int64_t step = config.block_q;
  for (std::int64_t p0 = 0; p0 < call.context; p0 += step) {
    if (p0 / 64 >= 2 * step) step *= 2;  // a few hundred looks, whatever the length
    if (prefill_unit_seconds(config, call, kernels, gpu, p0, false) <
        prefill_unit_seconds(config, call, kernels, gpu, p0, true)) {
      pays = p0;
      break;
    }
  }
  // Few units leave multiprocessors idle, and a search has a launch. Of a prompt four times as long
  // nine units in ten search, each for less than half of what dense attention takes.
  if (call.context <= 4 * pays && prompt_seconds(config, call, kernels, gpu, pays) >=
                                      prompt_seconds(config, call, kernels, gpu, call.context)) {
    return call.context;
  }
  return pays;
}

}  // namespace hip_attn
