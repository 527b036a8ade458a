// How a copy is divided over the kernels of a prefill beside it.
#include "hip_attn/cuda/launch/copy_shares.hpp"

#include <cstdint>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::cuda;

AttentionPlan plan_of(const HipConfig& config, std::int64_t max_seq_len) {
  AttentionPlan plan;
  plan.config = config;
  plan.shape.max_seq_len = max_seq_len;
  plan.shape.num_q_heads = 32;
  plan.shape.num_kv_heads = 8;
  return plan;
}

TEST_CASE("The parts of a copy follow one another and are all of it") {
  const std::int64_t length = GENERATE(0, 100, 131072, 1048576);
  const HipConfig config =
      GENERATE(presets::landmark(131072), presets::infinite_hip(), presets::dense());
  const std::int64_t rows = GENERATE(1, 1000, 3000000);
  const std::int64_t heads = GENERATE(1, 3);
  const int chosen = GENERATE(0, 1);
  const StagedKernels kernels =
      length == 0 ? StagedKernels{}
                  : staged_kernels(plan_of(config, length), heads, rows, 0, chosen);
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
  const auto shares_at = [](std::int64_t length) {
    return staged_kernels(plan_of(presets::landmark(length), length), 1, 32768, 0, 1).shares(true);
  };
  const CopyShares at_128k = shares_at(131072);
  const CopyShares at_4m = shares_at(4194304);
  // Attention to what is selected takes as long at any length, the search of landmarks does not.
  CHECK(at_128k.attend.count > at_128k.choose.count);
  CHECK(at_4m.choose.count > at_128k.choose.count);
  CHECK(at_128k.search.count > 0);
  // Query blocks that attend to every key are not searched.
  const StagedKernels dense =
      staged_kernels(plan_of(presets::landmark(131072), 131072), 1, 1000, 131072, 1);
  CHECK(dense.shares(true).search.count < at_128k.search.count);
}

}  // namespace
