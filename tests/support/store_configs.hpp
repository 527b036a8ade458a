/// What tests of a store search by, small enough that blocks are evicted.
#pragma once

#include <cstddef>

#include "built.hpp"
#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "store_engine.hpp"

namespace hip_attn::test {

inline HipConfig by_landmarks() {
  return {.sink = 64,
          .window = 128,
          .stages = {{64, 512, 1, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                     {8, 128, 1, ScanRule::kEveryKey, Reduction::kSoftmaxSum}},
          .refresh_interval = {4, 2}};
}
inline HipConfig by_descent() {
  return {.sink = 16,
          .window = 64,
          .stages = {{64, 512, 1}, {16, 256, 1}, {4, 64, 1}},
          .refresh_interval = {6, 4, 2}};
}
inline HipConfig of_one_stage() {
  return {.sink = 8, .window = 32, .stages = {{8, 64, 1}}, .max_first_chunks = 64};
}
inline HipConfig of_window() { return {.sink = 8, .window = 100, .stages = {{8, 0, 1}}}; }

inline std::size_t least_budget(const StoreEngineOptions& options, ElementType type) {
  KvStorePlan plan;
  const Status status =
      plan_kv_store(options.config,
                    {options.device, type, options.max_requests.value_or(options.batch),
                     options.max_len, options.kv_heads, options.head_dim},
                    std::size_t{1} << 40, plan);
  INFO(status.message());
  REQUIRE(status.ok());
  return plan.least_budget;
}

#define REQUIRE_CUDA_OR_SKIP()                                           \
  if (const Status status = check_device(cuda_device()); !status.ok()) { \
    HIP_ATTN_SKIP(status.message());                                     \
  }                                                                      \
  if (!is_built<T>()) HIP_ATTN_SKIP("this build lacks the element type")

}  // namespace hip_attn::test
