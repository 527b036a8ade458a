/// What every launcher needs: the right device, a launch whose error is its own, errors as Status.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

/// "append_kv: an illegal memory access was encountered". Forgets a non-sticky error: who has it as
/// a Status must not meet it again in cudaGetLastError.
inline Status to_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());
  return {StatusCode::kCudaError, std::string(what) + ": " + cudaGetErrorString(error)};
}

/// Makes a device current and gives the thread its own back. error() says if it could.
class DeviceGuard {
 public:
  explicit DeviceGuard(Device device) {
    int current = -1;
    error_ = cudaGetDevice(&current);
    if (error_ != cudaSuccess || current == device.index) return;
    error_ = cudaSetDevice(device.index);
    if (error_ == cudaSuccess) previous_ = current;
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() {
    if (previous_ >= 0) static_cast<void>(cudaSetDevice(previous_));
  }

  [[nodiscard]] cudaError_t error() const { return error_; }

 private:
  int previous_ = -1;  // negative: nothing to give back
  cudaError_t error_;
};

/// Thread blocks of a grid in y or z at most.
inline constexpr std::int64_t kMostGridYz = 65535;

/// Blocks for `count` items of which each block takes `per_block`, within the limit of a grid;
/// kernels stride over what is left. count >= 1.
inline dim3 grid_for(std::int64_t count, std::int64_t per_block) {
  const std::int64_t blocks = (count - 1) / per_block + 1;
  return dim3(static_cast<unsigned>(
      std::min<std::int64_t>(blocks, std::numeric_limits<std::int32_t>::max())));
}

/// A kernel ahead in the stream that may go on while the next one runs: that one neither reads what
/// it writes nor overwrites what it reads, and starts once it says launch_dependents().
struct Companion {
  int multiprocessors = 0;  ///< that it has for itself; 0: there is none
};

/// Thread blocks that are resident at once beside a companion, of so many without.
inline std::int64_t blocks_beside(std::int64_t blocks, int multiprocessors,
                                  const Companion& companion) {
  if (companion.multiprocessors == 0) return blocks;
  return std::max<std::int64_t>(
      1, blocks * (multiprocessors - companion.multiprocessors) / multiprocessors);
}

inline cudaLaunchAttribute cluster_attribute(int cluster) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  return attribute;
}

inline cudaLaunchAttribute early_start_attribute() {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

/// Thread blocks of a launch on the current device, and what each has.
struct LaunchShape {
  std::int64_t blocks = 1;
  int threads = 1;
  std::size_t shared_bytes = 0;
  int cluster = 1;
  Companion companion{};
};

template <typename Params>
Status launch(const char* what, void (*kernel)(Params), const LaunchShape& shape, Stream stream,
              const Params& params) {
  std::array<cudaLaunchAttribute, 2> attributes;
  cudaLaunchConfig_t config{};
  config.attrs = attributes.data();
  if (shape.cluster > 1) attributes[config.numAttrs++] = cluster_attribute(shape.cluster);
  if (shape.companion.multiprocessors > 0) attributes[config.numAttrs++] = early_start_attribute();
  config.gridDim = grid_for(shape.blocks, 1);
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  return to_status(cudaLaunchKernelEx(&config, kernel, params), what);
}

/// When a kernel starts.
enum class Start {
  kBehindUpstream,
  /// While the kernel before it still runs, where it was compiled for sm_90 or newer: there it
  /// calls wait_for_upstream_kernel() before it takes anything that others write for more than a
  /// hint.
  kEarly,
};

/// Launches kernel(params). The launch call's own result, unlike cudaGetLastError's, is never an
/// error that the caller left behind.
template <typename Params>
Status launch(const char* what, void (*kernel)(Params), dim3 grid, dim3 block, Device device,
              Stream stream, const Params& params, Start start = Start::kBehindUpstream) {
  const DeviceGuard guard(device);
  if (guard.error() != cudaSuccess) return to_status(guard.error(), what);
  cudaLaunchAttribute early = early_start_attribute();
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  if (start == Start::kEarly) {
    // Of the code that this device runs, which may be that of an older one.
    cudaFuncAttributes code{};
    const cudaError_t error = cudaFuncGetAttributes(&code, kernel);
    if (error != cudaSuccess) return to_status(error, what);
    config.attrs = &early;
    config.numAttrs = code.ptxVersion >= 90 ? 1 : 0;
  }
  return to_status(cudaLaunchKernelEx(&config, kernel, params), what);
}

}  // namespace hip_attn::cuda
