// How a copy is divided over the kernels of a prefill beside it.
#include "hip_attn/cuda/launch/copy_shares.hpp"

#include <cstdint>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::cuda;

AttentionPlan plan_of(const HipConfig& config, std::int64_t max_seq_len, std::int64_t total_q) {
  AttentionPlan plan;
  plan.config = config;
  plan.shape.max_seq_len = max_seq_len;
  plan.shape.total_q = total_q;
  plan.shape.num_q_heads = 32;
  plan.shape.num_kv_heads = 8;
  return plan;
}

TEST_CASE("The parts of a copy follow one another and are all of it") {
  const std::int64_t length = GENERATE(0, 100, 131072, 1048576);
  const std::int64_t rows = GENERATE(0, 1, 1000, 3000000);
  const HipConfig config = GENERATE(presets::landmark(131072), presets::infinite_hip(),
                                    presets::dense(), presets::sliding_window(1024));
  const StagedKernels kernels = staged_kernels(plan_of(config, length, rows));
  for (const bool chooses : {false, true}) {
    const CopyShares shares = kernels.shares(chooses);
    CHECK(shares.search.first == 0);
    CHECK(shares.search.count >= 0);
    CHECK(shares.attend.first == shares.search.count);
    CHECK(shares.attend.count > 0);
    CHECK(shares.choose.first == shares.attend.first + shares.attend.count);
    CHECK(shares.choose.count >= 0);
    CHECK(shares.choose.first + shares.choose.count == kStagedParts);
    if (!chooses) CHECK(shares.choose.count == 0);
    if (config.is_dense()) CHECK(shares.search.count == 0);
  }
}

TEST_CASE("The longer a kernel, the larger its part of a copy") {
  const auto plan_at = [](std::int64_t length) {
    return plan_of(presets::landmark(length), length, 32768);
  };
  const CopyShares at_128k = staged_kernels(plan_at(131072)).shares(true);
  const CopyShares at_4m = staged_kernels(plan_at(4194304)).shares(true);
  // Attention to what is selected takes as long at any length, the search of landmarks does not.
  CHECK(at_128k.attend.count > at_128k.choose.count);
  CHECK(at_4m.choose.count > at_128k.choose.count);
  // Without a search a copy runs beside attention alone.
  CHECK(StagedKernels{}.shares(true).attend.count == kStagedParts);
  // A descent chooses nothing.
  const StagedKernels descent = staged_kernels(plan_of(presets::infinite_hip(), 131072, 32768));
  CHECK(descent.shares(true).choose.count == 0);
  CHECK(descent.shares(true).search.count > 0);
  // Query blocks that attend to every key are not searched.
  AttentionPlan dense = plan_at(131072);
  dense.dense_until = 131072;
  CHECK(staged_kernels(dense).shares(true).search.count < at_128k.search.count);
}

}  // namespace
