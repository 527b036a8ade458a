// Asks CUDA what devices there are, where the library was built with it.
#include "gpus.hpp"
#include "hip_attn/build_info.hpp"

#if HIP_ATTN_INFO_CUDA
#include <cuda_runtime.h>
#endif

namespace hip_attn::info {

#if HIP_ATTN_INFO_CUDA
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, which, device) == cudaSuccess ? value : 0;
}

}  // namespace

std::vector<FoundDevice> find_devices(std::string& problem) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) problem = cudaGetErrorString(error);
  std::vector<FoundDevice> devices;
  for (int i = 0; error == cudaSuccess && i < count; ++i) {
    FoundDevice device;
    device.index = i;
    device.status = check_device(cuda_device(i));
    cudaDeviceProp properties{};
    std::size_t bytes = 0;
    if (cudaGetDeviceProperties(&properties, i) == cudaSuccess) {
      device.name = properties.name;
      bytes = properties.totalGlobalMem;
    }
    GpuProperties& of = device.properties;
    of.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, i);
    of.compute_capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, i) +
                            attribute(cudaDevAttrComputeCapabilityMinor, i);
    of.clock_ghz = attribute(cudaDevAttrClockRate, i) * 1e-6;
    // Two transfers a clock, of bits.
    of.memory_tb_per_s = 2. * attribute(cudaDevAttrMemoryClockRate, i) * 1e3 *
                         attribute(cudaDevAttrGlobalMemoryBusWidth, i) / 8. * 1e-12;
    of.memory_gb = static_cast<double>(bytes) * 1e-9;
    of.link_gb_per_s = of.compute_capability >= 90 ? 55. : 25.;  // PCIe 5.0 and 4.0, 16 lanes
    of.shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, i);
    of.l2_bytes = attribute(cudaDevAttrL2CacheSize, i);
    of.cluster_multiprocessors = of.compute_capability >= 90 ? 18 : 16;
    devices.push_back(device);
  }
  return devices;
}
#else
std::vector<FoundDevice> find_devices(std::string& problem) {
  problem = check_device(cuda_device()).message();
  return {};
}
#endif

}  // namespace hip_attn::info
