/// The cost model: predicted times of prefill and decode on a GPU, from what they read and multiply
/// (docs/guide/cost-model.md). Host arithmetic that asks no device; header-only.
#pragma once

#include <array>
#include <cstdint>
#include <numeric>

#include "hip_attn/cost/decode.hpp"
#include "hip_attn/cost/dense_until.hpp"
#include "hip_attn/cost/gpus.hpp"
#include "hip_attn/cost/prefill.hpp"

namespace hip_attn {

/// Seconds of one layer's call.
struct PrefillTimes {
  std::array<double, kMaxStages> stages{};  ///< of the search
  double search = 0.;                       ///< the stages and the launch of the search
  double attend = 0.;
  double total = 0.;
};

inline PrefillTimes predict_prefill(const PrefillWork& work, const CostRates& rates) {
  PrefillTimes times;
  for (int s = 0; s < work.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    times.stages[at] = rates.seconds(work.stages[at]);
  }
  times.search = rates.seconds(work.search());
  times.attend = rates.seconds(work.attend);
  times.total = times.search + times.attend;
  return times;
}

/// The work of a call by the kernels that a plan would take on this GPU.
inline PrefillTimes predict_prefill(const HipConfig& config, const PrefillCall& call,
                                    const Gpu& gpu) {
  const PrefillKernels kernels = assumed_prefill_kernels(config, call, gpu.properties);
  return predict_prefill(prefill_work(config, call, kernels, gpu.properties), gpu.rates);
}

/// Seconds of one layer's step.
struct DecodeTimes {
  std::array<double, kMaxStages> stages{};
  double attend = 0.;  ///< what a step that reuses its selection takes
  double total = 0.;
};

inline DecodeTimes predict_decode(const DecodeWork& work, const CostRates& rates) {
  DecodeTimes times;
  times.total = times.attend = rates.seconds(work.attend);
  for (int s = 0; s < work.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    times.stages[at] = rates.seconds(work.stages[at]);
    times.total += times.stages[at];
  }
  return times;
}

/// Steps after which config.refresh_interval begins anew; 1 where every stage runs in every step.
inline std::int64_t refresh_cycle(const HipConfig& config) {
  std::int64_t cycle = 1;
  for (const std::int32_t interval : config.refresh_interval)
    cycle = std::lcm<std::int64_t>(cycle, interval);
  return cycle;
}

/// The mean work of a step over the refresh cycle: stage s runs in every step in which it or a
/// stage before it is due.
inline DecodeWork mean_decode_work(const HipConfig& config, const DecodeCall& call,
                                   const DecodeTeams& teams, const GpuProperties& gpu) {
  DecodeWork work = decode_work(config, call, teams, gpu, 0);
  if (config.refresh_interval.empty()) return work;
  const std::int64_t cycle = refresh_cycle(config);
  for (int s = 0; s < work.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    std::int64_t runs = 0;
    for (std::int64_t step = 0; step < cycle; ++step) {
      bool due = false;
      for (int before = 0; before <= s; ++before)
        due = due || step % config.refresh_interval[static_cast<std::size_t>(before)] == 0;
      runs += due ? 1 : 0;
    }
    const double share = static_cast<double>(runs) / static_cast<double>(cycle);
    CostWork mean;
    work.stages[at] = mean.add(work.stages[at], share);
    work.reads[at] *= share;
  }
  return work;
}

/// The longest context, a multiple of 256 up to `most`, at which a step of dense attention takes no
/// longer than the mean step over the refresh cycle. 0: there is none.
inline std::int64_t decode_dense_until(const HipConfig& config, DecodeCall call, const Gpu& gpu,
                                       std::int64_t most) {
  if (config.is_dense() || config.is_window_only()) return 0;
  const DecodeTeams teams = assumed_decode_teams(call, gpu.properties);
  std::int64_t longest = 0;
  std::int64_t step = 256;
  for (call.context = step; call.context <= most; call.context += step) {
    if (call.context >= 128 * step) step *= 2;
    const double mean =
        predict_decode(mean_decode_work(config, call, teams, gpu.properties), gpu.rates).total;
    const double dense =
        predict_decode(decode_work(presets::dense(), call, teams, gpu.properties, 0), gpu.rates)
            .total;
    if (dense <= mean) longest = call.context;
    if (dense > 2. * mean) break;
  }
  return longest;
}

}  // namespace hip_attn
