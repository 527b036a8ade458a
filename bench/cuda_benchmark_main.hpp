// What the programs of benchmarks on a GPU do in main().
#pragma once

#include <benchmark/benchmark.h>
#include <cuda_runtime.h>

#include <string>
#include <string_view>

#include "cuda_bench_support.hpp"
#include "hip_attn/hip_attn.hpp"

namespace hip_attn::bench {

/// Names and reasons of benchmarks that register_benchmarks has left out, for the context.
inline std::string& left_out() {
  static std::string all;
  return all;
}

inline void leave_out(const std::string& name, std::string_view reason) {
  left_out() += fmt::format("{}{}: {}", left_out().empty() ? "" : "\n", name, reason);
}

/// Whether a benchmark that takes about `bytes`, for whose call there is a plan or `planned` says
/// why not, can run on the GPU. What cannot is left out.
inline bool can_run(const std::string& name, double bytes, const Status& planned) {
  const auto free = static_cast<double>(free_bytes());
  if (bytes > free) {
    leave_out(name, fmt::format("{:.1f} GB of {:.1f} GB free", bytes * 1e-9, free * 1e-9));
    return false;
  }
  if (!planned.ok()) leave_out(name, planned.message());
  return planned.ok();
}

/// Runs what register_benchmarks adds. The context names the library's version, the GPU, what CUDA
/// has of it, and what was left out.
inline int run_benchmarks(int argc, char** argv, void (*register_benchmarks)()) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  check(check_device(cuda_device()));
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  benchmark::AddCustomContext("hip_attn", version());
  benchmark::AddCustomContext("gpu", properties.name);
  benchmark::AddCustomContext(
      "gpu_properties",
      fmt::format("{} multiprocessors, compute capability {}.{}, {:.1f} GB",
                  properties.multiProcessorCount, properties.major, properties.minor,
                  static_cast<double>(properties.totalGlobalMem) * 1e-9));
  int driver = 0;
  int runtime = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  benchmark::AddCustomContext(
      "cuda", fmt::format("runtime {}.{}, driver for {}.{}", runtime / 1000, runtime % 1000 / 10,
                          driver / 1000, driver % 1000 / 10));
  register_benchmarks();
  if (!left_out().empty()) benchmark::AddCustomContext("left_out", left_out());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace hip_attn::bench
