// The GPUs that hip_attn-info predicts for: those of the cost model by name, and the devices here.
#pragma once

#include <string>
#include <vector>

#include "hip_attn/cost.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn::info {

/// A device of this machine, or why there is none.
struct FoundDevice {
  int index = 0;
  std::string name;
  GpuProperties properties;  // its name is empty
  Status status;             // of check_device
};
/// Empty in a build without CUDA. `problem`: why the list is empty.
std::vector<FoundDevice> find_devices(std::string& problem);

std::vector<std::string> gpu_names();
/// One of gpu_names().
Gpu gpu_by_name(const std::string& name);
/// The model for a device: fitted where its kind is, otherwise scaled from the H200's.
Gpu gpu_of_device(const FoundDevice& device);

}  // namespace hip_attn::info
