#include "gpus.hpp"

#include <algorithm>
#include <cctype>

namespace hip_attn::info {

std::vector<std::string> gpu_names() {
  std::vector<std::string> names;
  for (const Gpu& gpu : fitted_gpus()) names.emplace_back(gpu.properties.name);
  for (const GpuProperties& gpu : known_gpus()) names.emplace_back(gpu.name);
  return names;
}

Gpu gpu_by_name(const std::string& name) {
  for (const Gpu& gpu : fitted_gpus())
    if (name == gpu.properties.name) return gpu;
  for (const GpuProperties& gpu : known_gpus())
    if (name == gpu.name) return scaled(kH200, gpu);
  return kH200;
}

Gpu gpu_of_device(const FoundDevice& device) {
  std::string name = device.name;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const Gpu& gpu : fitted_gpus()) {
    // A part of a GPU has another number of multiprocessors.
    if (name.find(gpu.properties.name) != std::string::npos &&
        device.properties.multiprocessors == gpu.properties.multiprocessors) {
      return gpu;
    }
  }
  return scaled(kH200, device.properties);
}

}  // namespace hip_attn::info
