// Attention of prefill on compute capability 9.0: the choice of a kernel, and its launch.
#include <algorithm>
#include <string>

#include "launch.hpp"
#include "prefill_hopper.hpp"

namespace hip_attn::cuda {
namespace {

template <typename T>
HopperAttend<T> attend_for(std::int64_t head_dim, std::int64_t rows, bool row_windows) {
  if constexpr (kBuilt<T>) {
    switch (head_dim) {
#define HIP_ATTN_CASE(kHeadDim) \
  case kHeadDim:                \
    return hopper_attend<T, kHeadDim>(rows, row_windows);
      HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_CASE)
#undef HIP_ATTN_CASE
      default:
        break;
    }
  }
  return {};  // refused by the plan
}

}  // namespace

template <typename T>
Status prepare_hopper_attend(std::int64_t head_dim, bool& available) {
  available = false;
  if (!HIP_ATTN_BUILT_sm_90a) return {};
  constexpr struct {
    std::int64_t rows;
    bool row_windows;
  } kAll[] = {{64, false}, {128, false}, {256, false}, {128, true}};
  for (const auto& [rows, row_windows] : kAll) {
    const HopperAttend<T> attend = attend_for<T>(head_dim, rows, row_windows);
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, attend.kernel);
    if (error != cudaSuccess) return to_status(error, "plan_prefill");
    // Compiled from PTX: without the instructions that the kernels are made of.
    if (attributes.binaryVersion != 90) return {};
    error = cudaFuncSetAttribute(attend.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(attend.shared_bytes));
    if (error != cudaSuccess) return to_status(error, "plan_prefill");
  }
  available = true;
  return {};
}

template <typename T>
Status launch_hopper_attend(const PrefillParams<T>& params, std::int64_t head_dim,
                            int multiprocessors, Stream stream) {
  const std::int64_t units = std::int64_t{params.selection_rows} * params.num_kv_heads;
  const std::int64_t rows = std::int64_t{params.block_q} * params.group;
  // A chunk of few query blocks: smaller tiles of rows, on more multiprocessors, gather the same
  // keys again from L2. A row's result is the same to the bit.
  const bool few = units * (rows / 256 + 1) * 2 <= multiprocessors;
  const HopperAttend<T> attend =
      attend_for<T>(head_dim, few ? 64 : rows, params.row_window < INT32_MAX);
  const std::int64_t blocks = units * ((rows + attend.rows - 1) / attend.rows);
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // the kernel numbers them in 32 bits
  if (blocks > kMost) {
    return {StatusCode::kUnsupported, "the call has " + std::to_string(blocks) + " tiles of " +
                                          std::to_string(attend.rows) +
                                          " query rows; prefill on this GPU takes up to " +
                                          std::to_string(kMost) + ": give it in pieces"};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid_for(std::min<std::int64_t>(blocks, std::int64_t{multiprocessors} *
                                                               attend.blocks_per_multiprocessor),
                            1);
  config.blockDim = dim3(static_cast<unsigned>(attend.threads));
  config.dynamicSmemBytes = attend.shared_bytes;
  config.stream = stream;
  return to_status(cudaLaunchKernelEx(&config, attend.kernel, params), "run_prefill");
}

#define HIP_ATTN_INSTANTIATE(T)                                  \
  template Status prepare_hopper_attend<T>(std::int64_t, bool&); \
  template Status launch_hopper_attend(const PrefillParams<T>&, std::int64_t, int, Stream);
HIP_ATTN_INSTANTIATE(float16)
HIP_ATTN_INSTANTIATE(bfloat16)
#undef HIP_ATTN_INSTANTIATE

}  // namespace hip_attn::cuda
