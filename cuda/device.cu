#include <array>
#include <atomic>
#include <string>

#include "cuda_backend.hpp"
#include "hip_attn/cuda/launch/launch.hpp"

namespace hip_attn::cuda {
namespace {

constexpr int kMaxCachedDevices = 64;

__global__ void probe_kernel() {}

// Devices that the driver lists, counted once. `error` is why there are none.
int device_count(cudaError_t& error) {
  static std::atomic<int> counted{-1};
  error = cudaSuccess;
  int count = counted.load(std::memory_order_relaxed);
  if (count >= 0) return count;
  error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return 0;
  }
  counted.store(count, std::memory_order_relaxed);
  return count;
}

// Fails when this build has no machine code or PTX for the device.
Status check_kernels(Device device) {
  const DeviceGuard guard(device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), "check_device");
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe_kernel);
  if (error != cudaErrorNoKernelImageForDevice && error != cudaErrorUnsupportedPtxVersion) {
    return to_status(error, "check_device");
  }
  static_cast<void>(cudaGetLastError());
  return {StatusCode::kUnsupported,
          "device is CUDA " + std::to_string(device.index) + ": " + cudaGetErrorString(error) +
              "; build with its architecture in CMAKE_CUDA_ARCHITECTURES"};
}

}  // namespace

Status check_device(Device device) {
  cudaError_t error = cudaSuccess;
  const int count = device_count(error);
  const bool none = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  if (error != cudaSuccess && !none) return to_status(error, "check_device");
  if (device.index < 0 || device.index >= count) {
    std::string message = "device is CUDA " + std::to_string(device.index) +
                          "; CUDA devices found: " + std::to_string(count);
    if (none) message += std::string(" (") + cudaGetErrorString(error) + ")";
    return {StatusCode::kUnsupported, message};
  }

  static std::array<std::atomic<bool>, kMaxCachedDevices> checked{};
  const bool cached = device.index < kMaxCachedDevices;
  if (cached && checked[device.index].load(std::memory_order_relaxed)) return {};
  Status status = check_kernels(device);
  if (status.ok() && cached) checked[device.index].store(true, std::memory_order_relaxed);
  return status;
}

}  // namespace hip_attn::cuda
