// What the programs of benchmarks on a GPU do in main().
#pragma once

#include <benchmark/benchmark.h>
#include <cuda_runtime.h>

#include "cuda_bench_support.hpp"
#include "hip_attn/hip_attn.hpp"

namespace hip_attn::bench {

/// Runs what register_benchmarks adds. The context names the library's version and the GPU.
inline int run_benchmarks(int argc, char** argv, void (*register_benchmarks)()) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  check(check_device(cuda_device()));
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  benchmark::AddCustomContext("hip_attn", version());
  benchmark::AddCustomContext("gpu", properties.name);
  register_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace hip_attn::bench
