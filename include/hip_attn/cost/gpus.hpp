/// The GPUs that the cost model knows by name.
#pragma once

#include <array>
#include <span>

#include "hip_attn/cost/gpu.hpp"
#include "hip_attn/cost/h200.hpp"

namespace hip_attn {

/// GPUs with fitted rates, each in a header that bench/fit_cost.py writes.
inline std::span<const Gpu> fitted_gpus() {
  static const std::array kGpus = {kH200};
  return kGpus;
}

/// Other GPUs, by what their makers say. Their rates are scaled().
inline std::span<const GpuProperties> known_gpus() {
  static constexpr std::array<GpuProperties, 3> kGpus = {{
      {"h100-sxm", 132, 90, 1.98, 3.35, 80., 55., 233472, 50 << 20, 18},
      {"a100-sxm-80gb", 108, 80, 1.41, 2.039, 80., 25., 167936, 40 << 20, 16},
      {"l40s", 142, 89, 2.52, 0.864, 48., 25., 102400, 96 << 20, 12},
  }};
  return kGpus;
}

}  // namespace hip_attn
