// The first code that a reader of README.md sees.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/docs_layer.hpp"

namespace {

using namespace hip_attn;

constexpr std::int64_t kQHeads = 32;
constexpr std::int64_t kKvHeads = 8;
constexpr std::int64_t kHeadDim = 128;

// What the reader's engine has: one request with enough keys for a search, and a short one.
struct Engine {
  std::int64_t batch = 2;
  std::int64_t max_pages = 256;
  std::int64_t num_pages = batch * max_pages;
  std::vector<bfloat16> k_pages = test::random_bfloat16(num_pages * 16 * kKvHeads * kHeadDim, 1);
  std::vector<bfloat16> v_pages = test::random_bfloat16(num_pages * 16 * kKvHeads * kHeadDim, 2);
  std::vector<std::int32_t> block_table = std::vector<std::int32_t>(num_pages);
  std::vector<std::int32_t> seq_lens{4096, 100};
  std::vector<std::int32_t> cu_seqlens_q{0, 1, 2};
  std::vector<bfloat16> q = test::random_bfloat16(batch * kQHeads * kHeadDim, 3);
  std::vector<bfloat16> out = std::vector<bfloat16>(q.size(), from_float<bfloat16>(test::kNaN));

  // Pages in descending order, so that no page is in its own place.
  Engine() { std::iota(block_table.rbegin(), block_table.rend(), 0); }

  Status decode_step() {
    // [quickstart]
    const AttentionShape shape{.batch = batch,
                               .total_q = batch,
                               .max_seq_len = 131072,
                               .num_q_heads = 32,
                               .num_kv_heads = 8,
                               .head_dim = 128};
    AttentionPlan plan;
    Status status = plan_decode<bfloat16>(presets::infinite_hip(), shape, plan);
    if (!status.ok()) return status;
    std::vector<std::byte> workspace(plan.workspace_bytes);

    AttentionArgs<bfloat16> args;
    args.q = {q.data(), {batch, 32, 128}};
    args.kv.pages = kv_pages_nhd(k_pages.data(), v_pages.data(), num_pages, 16, 8, 128);
    args.kv.block_table = TensorView<const std::int32_t, 2>(block_table.data(), {batch, max_pages});
    args.seq_lens = {seq_lens.data(), {batch}};
    args.cu_seqlens_q = {cu_seqlens_q.data(), {batch + 1}};
    args.out = {out.data(), {batch, 32, 128}};
    return run_decode(plan, args, workspace);
    // [quickstart]
  }

  // Element d of the row of request 1, query head `head`, by dense attention in float64.
  [[nodiscard]] double dense(std::int64_t head, std::int64_t d) const {
    const auto row = [&](const std::vector<bfloat16>& pages, std::int64_t t) {
      const std::int64_t slot = block_table[max_pages + t / 16] * std::int64_t{16} + t % 16;
      return &pages[(slot * kKvHeads + head / (kQHeads / kKvHeads)) * kHeadDim];
    };
    double sum = 0;
    double weighted = 0;
    for (std::int64_t t = 0; t < seq_lens[1]; ++t) {
      double logit = 0;
      for (std::int64_t i = 0; i < kHeadDim; ++i) {
        logit +=
            double{to_float(q[(kQHeads + head) * kHeadDim + i])} * to_float(row(k_pages, t)[i]);
      }
      const double p = std::exp(logit / std::sqrt(double{kHeadDim}));
      sum += p;
      weighted += p * to_float(row(v_pages, t)[d]);
    }
    return weighted / sum;
  }
};

TEST_CASE("the quickstart decodes, and its short request is dense attention") {
  if (!test::documents_can_run() || !std::ranges::count(built_head_dims(), kHeadDim)) {
    HIP_ATTN_SKIP("this build lacks bfloat16 or head dim 128");
  }
  Engine engine;
  const Status status = engine.decode_step();
  INFO(status.message());
  REQUIRE(status.ok());
  CHECK(std::ranges::none_of(engine.out, [](bfloat16 x) { return std::isnan(to_float(x)); }));
  for (const std::int64_t head : {0, 13, 31}) {
    for (const std::int64_t d : {0, 64, 127}) {
      // bfloat16 keeps 8 bits.
      CHECK(to_float(engine.out[(kQHeads + head) * kHeadDim + d]) ==
            Catch::Approx(engine.dense(head, d)).epsilon(1. / 256).margin(1e-4));
    }
  }
}

}  // namespace
