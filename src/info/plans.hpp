// The plans of prefill and decode that hip_attn-info reports, with their predicted times.
#pragma once

#include <optional>

#include "gpus.hpp"
#include "options.hpp"
#include "report.hpp"

namespace hip_attn::info {

/// What to predict for. Without a GPU, what a plan says on any machine.
struct Target {
  std::optional<Gpu> gpu;
  std::optional<Device> device;  // one that is here: plans are made on it
};

/// Adds "shape", "plans" and "offload" to the report. Throws UsageError.
void add_plans(const Options& options, const Target& target, Json& report);

}  // namespace hip_attn::info
