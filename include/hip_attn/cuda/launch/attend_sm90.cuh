/// Attention of prefill on compute capability 9.0: the choice of a kernel, and its launch.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>

#include "hip_attn/cuda/attend/sm90/kernel.cuh"
#include "hip_attn/cuda/launch/launch.hpp"

namespace hip_attn::cuda {

/// A kernel that takes some number of query rows at once, and how it is launched.
template <typename Traits>
struct Sm90Attend {
  void (*kernel)(PrefillParams<StoredOf<Traits>>);
  int threads;
  int rows;  ///< query rows of a unit that a thread block takes
  int blocks_per_multiprocessor;
  std::size_t shared_bytes;

  template <int kWarpgroups, int kTiles, bool kRowWindows = false>
  static Sm90Attend instance() {
    using Policy = sm90::AttendPolicy<Traits::kHeadDim, kWarpgroups, kTiles, kRowWindows>;
    return {sm90::attend_kernel<Traits, kWarpgroups, kTiles, kRowWindows>, Policy::kThreads,
            Policy::kRows, Policy::kBlocksPerMultiprocessor, sizeof(sm90::AttendShared<Policy>)};
  }
};

/// The one with blocks of 64, 128 or 256 rows that fits units of `rows` rows best; where rows have
/// windows of their own, the one for that. The library compiles it apart from the rest of prefill.
template <typename Traits>
Sm90Attend<Traits> sm90_attend(std::int64_t rows, bool row_windows) {
  using Attend = Sm90Attend<Traits>;
  if (row_windows) return Attend::template instance<2, 1, true>();
  if (rows <= 64) return Attend::template instance<1, 1>();
  // Outputs of 128 rows by 256 columns fill the registers of two warpgroups.
  if constexpr (Traits::kHeadDim <= 128) {
    if (rows > 128) return Attend::template instance<2, 2>();
  }
  return Attend::template instance<2, 1>();
}

/// Readies the kernels on the current device, which is of compute capability 9.0 and for which they
/// were compiled.
template <typename Traits>
Status prepare_sm90_attend() {
  constexpr struct {
    std::int64_t rows;
    bool row_windows;
  } kAll[] = {{64, false}, {128, false}, {256, false}, {128, true}};
  for (const auto& [rows, row_windows] : kAll) {
    const Sm90Attend<Traits> attend = sm90_attend<Traits>(rows, row_windows);
    const cudaError_t error =
        cudaFuncSetAttribute(attend.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(attend.shared_bytes));
    if (error != cudaSuccess) return to_status(error, "plan_prefill");
  }
  return {};
}

/// Attends on the current device, for which prepare_sm90_attend() has been called.
template <typename Traits>
Status launch_sm90_attend(const PrefillParams<StoredOf<Traits>>& params, int multiprocessors,
                          Stream stream, const Companion& companion) {
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  const std::int64_t rows = std::int64_t{params.block_q} * params.group;
  // A chunk of few query blocks: smaller tiles of rows, on more multiprocessors, gather the same
  // keys again from L2. A row's result is the same to the bit.
  const bool few = units * (rows / 256 + 1) * 2 <= multiprocessors;
  const Sm90Attend<Traits> attend =
      sm90_attend<Traits>(few ? 64 : rows, params.search.row_window < SearchPlan::kUnbounded);
  const std::int64_t blocks = units * ((rows + attend.rows - 1) / attend.rows);
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // the kernel numbers them in 32 bits
  if (blocks > kMost) {
    return {StatusCode::kUnsupported, "the call has " + std::to_string(blocks) + " tiles of " +
                                          std::to_string(attend.rows) +
                                          " query rows; prefill on this GPU takes up to " +
                                          std::to_string(kMost) + ": give it in pieces"};
  }
  const std::int64_t resident = std::int64_t{multiprocessors} * attend.blocks_per_multiprocessor;
  const LaunchShape shape{
      .blocks = std::min(blocks, blocks_beside(resident, multiprocessors, companion)),
      .threads = attend.threads,
      .shared_bytes = attend.shared_bytes,
      .companion = companion};
  return launch("run_prefill", attend.kernel, shape, stream, params);
}

}  // namespace hip_attn::cuda
