/// A GPU as the cost model knows it, and how the rates of one become those of another.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hip_attn/cost/terms.hpp"

namespace hip_attn {

struct GpuProperties {
  const char* name = "";
  int multiprocessors = 0;
  int compute_capability = 0;     ///< 90 for 9.0
  double clock_ghz = 0.;          ///< the highest that the multiprocessors run at
  double memory_tb_per_s = 0.;    ///< 10^12 bytes per second that the memory is specified for
  double memory_gb = 0.;          ///< 10^9 bytes
  double link_gb_per_s = 0.;      ///< 10^9 bytes per second from pinned host memory
  std::int64_t shared_bytes = 0;  ///< of a multiprocessor
  std::int64_t l2_bytes = 0;
  /// Multiprocessors that a thread-block cluster may span.
  int cluster_multiprocessors = 0;

  /// The kernels for compute capability 9.0 run.
  [[nodiscard]] bool has_hopper_kernels() const { return compute_capability == 90; }
  [[nodiscard]] bool has_clusters() const { return compute_capability >= 90; }
};

/// Rates that were fitted to measurements of this GPU, or scaled from another's.
struct Gpu {
  GpuProperties properties;
  CostRates rates;
  /// The GPU whose measurements the rates are fitted to; another name than its own: scaled.
  const char* measured_on = "";
};

/// The GPU with these properties, by what they are of the other's: rates by memory shrink with the
/// bandwidth, rates by products with multiprocessors times clock, rates of dependent steps with the
/// clock. A guess: what one multiprocessor does in a clock differs between architectures.
inline Gpu scaled(const Gpu& from, const GpuProperties& to) {
  const GpuProperties& of = from.properties;
  const double clock = of.clock_ghz / to.clock_ghz;
  const double compute = clock * of.multiprocessors / to.multiprocessors;
  const double memory = of.memory_tb_per_s / to.memory_tb_per_s;
  Gpu gpu{to, from.rates, from.measured_on};
  for (int i = 0; i < kNumCostTerms; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const CostScaling scaling = kCostTerms[at].scaling;
    gpu.rates.ns[at] *= scaling == CostScaling::kMemory    ? memory
                        : scaling == CostScaling::kCompute ? compute
                                                           : clock;
  }
  return gpu;
}

}  // namespace hip_attn
