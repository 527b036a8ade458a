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
    const double slots = static_cast<double>(gpu.properties.multiprocessors) * kernels.search_blocks;
    for (int s = 0; s < unit.num_stages; ++s) {
      const StageReads& stage = unit.stages[static_cast<std::size_t>(s)];
      add_stage_work(stage, kernels, call.head_dim, call.element_bytes, work);
      if (stage.runs) work[stage_wave_term(kernels.search)] += 1. / slots;
    }
  }
  return gpu.rates.seconds(work);
}

/// The first position, a multiple of block_q up to call.context, from where on a search pays.
/// Depends on the position of a query block and not on the call's rows, so that a prompt in pieces
/// attends as the whole. 0 where nothing is searched. A few hundred looks, whatever the length.
inline std::int64_t dense_until(const HipConfig& config, const PrefillCall& call,
                                const PrefillKernels& kernels, const Gpu& gpu) {
  if (config.is_dense() || config.is_window_only()) return 0;
  std::int64_t step = config.block_q;
  for (std::int64_t p0 = 0; p0 < call.context; p0 += step) {
    if (p0 / 64 >= 2 * step) step *= 2;
    if (prefill_unit_seconds(config, call, kernels, gpu, p0, false) <
        prefill_unit_seconds(config, call, kernels, gpu, p0, true)) {
      return p0;
    }
  }
  return call.context;
}

}  // namespace hip_attn
