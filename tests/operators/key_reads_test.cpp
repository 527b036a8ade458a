// The cost of the search, counted in keys. Most tests run the library's search with scores that are
// all 0: how many keys are read depends on lengths alone, never on values.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cpu/search.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/device_buffer.hpp"
#include "support/run.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

// One row whose product with every key and landmark is 0.
struct ZeroScorer {
  [[nodiscard]] static std::int64_t num_rows() { return 1; }
  static void maxima(const std::int32_t*, int n, float* a) { std::fill(a, a + n, 0.f); }
  static void products(const std::int32_t*, int n, float* out) { std::fill(out, out + n, 0.f); }
  static void landmark_products(const std::int32_t*, int n, float* out) {
    std::fill(out, out + n, 0.f);
  }
};

// Keys that one query block of prefill, or one decode step, reads in each stage, landmarks in a
// landmark stage, and attends to.
std::vector<std::int64_t> key_reads(const HipConfig& config, std::int64_t p0, std::int64_t rows) {
  const SearchPlan plan = make_search_plan(config, p0 + 1);
  const std::int32_t w0 = plan.window_start(static_cast<std::int32_t>(p0));
  const auto size = static_cast<std::size_t>(plan.max_chunks);
  std::vector<std::int32_t> starts(size), other_starts(size);
  std::vector<float> scores(size), scratch(size), row_logits(size);
  std::vector<float> products(cpu::kScanBatchKeys);
  cpu::SearchMemory memory{.starts = starts.data(),
                           .other_starts = other_starts.data(),
                           .scores = scores.data(),
                           .scratch = scratch.data(),
                           .row_logits = row_logits.data()};
  std::vector<std::int64_t> reads(config.stages.size() + 1, 0);
  cpu::TreeSearch<> search(plan, w0, {0, plan.num_stages}, 0, memory);
  const auto [starts_of_blocks, blocks] = cpu::run_search(
      search, [](int) { return ZeroScorer{}; }, [](int, const std::int32_t*, std::int64_t) {},
      reads.data(), {1.f, 0.f}, products.data());
  const std::int64_t end = p0 + rows;
  reads.back() =
      std::min(config.sink, end) + blocks * config.block_k() + std::max<std::int64_t>(0, end - w0);
  return reads;
}

// Keys that the search reads for the rows at positions [from, to) of a prompt, from 64 to 128 query
// blocks spread evenly: what a block reads changes slowly with its position.
double prefill_reads(const HipConfig& config, std::int64_t from, std::int64_t to) {
  const std::int64_t num_blocks = (to - from) / config.block_q;
  const std::int64_t step = std::max<std::int64_t>(1, num_blocks / 64);
  double reads = 0;
  std::int64_t samples = 0;
  for (std::int64_t block = step / 2; block < num_blocks; block += step, ++samples) {
    const auto mine = key_reads(config, from + block * config.block_q, config.block_q);
    for (std::size_t s = 0; s + 1 < mine.size(); ++s) reads += static_cast<double>(mine[s]);
  }
  return reads * static_cast<double>(num_blocks) / static_cast<double>(samples);
}

constexpr std::int64_t kMillion = std::int64_t{1} << 20;

TEST_CASE("a decode step at one million tokens reads what the algorithm page says") {
  // A million candidates between the sink of 256 and the window of 1024.
  const auto reads = key_reads(presets::infinite_hip(), kMillion + 256 + 1024 - 1, 1);
  CHECK(reads == std::vector<std::int64_t>{4096 * 16, 1024 * 10, 1024 * 6, 3328});
}

HIP_ATTN_TYPED_TEST_CASE(
    "the operators count a decode step at one million tokens and at the longest sequence") {
  // Every entry of the block table names the same page, so that the keys of a million tokens fit in
  // one. All scores of a level tie.
  const HipConfig config = presets::infinite_hip();
  struct Case {
    std::int64_t seq_len;
    std::vector<std::int64_t> counters;
  };
  constexpr std::int64_t kLongest = std::numeric_limits<std::int32_t>::max();
  // 2^31 - 1 tokens: 4096 chunks of 2^19 tokens, which is 19 levels, but for the last chunk: it has
  // 1288 tokens less, and its left halves, rounded down, are single keys after 18. Of the 32768
  // tokens to keep there is not one whole chunk, so one survives: 16384 chunks of 32.
  const std::vector<Case> cases = {
      {kMillion + 256 + 1024, {4096 * 16, 1024 * 10, 1024 * 6, 3328, 3328}},
      {kLongest, {4095 * 38 + 36, 16384 * 10, 1024 * 6, 3335, 3335}}};
  for (const Case& each : cases) {
    constexpr std::int64_t kPageSize = 1024;
    const std::int64_t head_dim = least_head_dim();
    const DeviceBuffer<TestType> k(kCpu, kPageSize * head_dim, from_float<TestType>(0.5f));
    const DeviceBuffer<TestType> v(kCpu, kPageSize * head_dim, from_float<TestType>(0.5f));
    const DeviceBuffer<TestType> q(kCpu, head_dim, from_float<TestType>(1.f));
    const DeviceBuffer<TestType> out(kCpu, head_dim, from_float<TestType>(kNaN));
    const std::vector<std::int32_t> table((each.seq_len + kPageSize - 1) / kPageSize, 0);
    const auto seq_len = static_cast<std::int32_t>(each.seq_len);
    const std::int32_t cu_seqlens[] = {0, 1};
    std::vector<std::int64_t> counters(5, 0);

    AttentionShape shape;
    shape.max_seq_len = each.seq_len;
    shape.head_dim = head_dim;
    const AttentionPlan plan = make_plan<TestType>(Operator::kDecode, config, shape);
    const DeviceBuffer<std::byte> workspace(kCpu, static_cast<std::int64_t>(plan.workspace_bytes),
                                            std::byte{0});
    AttentionArgs<TestType> args;
    args.q = {q.data(), {1, 1, head_dim}};
    args.kv.pages = kv_pages_nhd<const TestType>(k.data(), v.data(), 1, kPageSize, 1, head_dim);
    args.kv.block_table = TensorView<const std::int32_t, 2>(
        table.data(), {1, static_cast<std::int64_t>(table.size())});
    args.seq_lens = {&seq_len, {1}};
    args.cu_seqlens_q = {cu_seqlens, {2}};
    args.out = {out.data(), {1, 1, head_dim}};
    args.counters = TensorView<std::int64_t, 1>(counters.data(), {5});
    const Status status =
        run_decode<TestType>(plan, args, {workspace.data(), plan.workspace_bytes});
    INFO(status.message());
    REQUIRE(status.ok());
    CHECK(counters == each.counters);
    for (const TestType value : out.read()) CHECK(to_float(value) == 0.5f);
    CHECK(workspace.guards_intact());
  }
}

TEST_CASE("key reads of a prompt grow no faster than T log T") {
  const HipConfig config = GENERATE(presets::infinite_hip(), presets::infinite_hip_5k(),
                                    presets::hip_classic(131072, 512, 32));
  // At most max_first_chunks * 2 * log2(chunk) keys per block in the first stage, and a
  // fixed number in the others.
  double other_stages = 0;
  for (std::size_t s = 1; s < config.stages.size(); ++s) {
    other_stages += static_cast<double>(config.stages[s - 1].keep / config.stages[s].chunk_size) *
                    2 * std::log2(config.stages[s].chunk_size);
  }
  for (std::int64_t tokens = 4096; tokens <= 64 * kMillion; tokens *= 2) {
    const double log_tokens = std::log2(static_cast<double>(tokens));
    const double blocks = static_cast<double>(tokens / config.block_q);
    CAPTURE(tokens);
    CHECK(prefill_reads(config, 0, tokens) <=
          blocks * (static_cast<double>(config.max_first_chunks) * 2 * log_tokens + other_stages));
  }
}

TEST_CASE("past max_first_chunks, twice the tokens cost twice the reads and one level of descent") {
  HipConfig config = GENERATE(presets::infinite_hip(), presets::infinite_hip_5k());
  // With 128 first chunks the bound holds from 32k tokens on, with 4096 from one million.
  config.max_first_chunks = GENERATE(128, 4096);
  const std::int64_t bound = config.max_first_chunks * 256;
  for (std::int64_t tokens = 2 * bound; tokens <= 64 * bound; tokens *= 2) {
    // Rows [T / 2, T) search chunks of 2^levels tokens and rows [T, 2 T) chunks twice as large.
    const double levels = std::log2(static_cast<double>(tokens / config.max_first_chunks));
    const double first = prefill_reads(config, tokens / 2, tokens);
    const double second = prefill_reads(config, tokens, 2 * tokens);
    CAPTURE(tokens, first, second);
    CHECK(second / first <= 1.01 * 2 * (levels + 1) / levels);  // 1 % for sampling
  }
}

TEST_CASE("every query block reads at most the bound at any length") {
  const HipConfig config = presets::infinite_hip();
  for (std::int64_t tokens = 4096; tokens < std::int64_t{1} << 31; tokens += tokens / 7) {
    const auto reads = key_reads(config, tokens - 1, 1);
    const std::int64_t candidates = window_start(config, tokens - 1) - config.sink;
    const std::int64_t chunk = first_chunk_size(config, candidates);
    const auto levels = static_cast<std::int64_t>(std::log2(static_cast<double>(chunk)));
    CAPTURE(tokens, chunk);
    CHECK(reads[0] <= config.max_first_chunks * 2 * levels);
    CHECK(reads[3] <= 256 + 2048 + 1024 + 7);
  }
}

TEST_CASE("lengths within a stage's budget cost that stage nothing") {
  const HipConfig config = presets::infinite_hip();
  const auto reads_at = [&](std::int64_t candidates) {
    return key_reads(config, candidates + 256 + 1024 - 1, 1);
  };
  CHECK(reads_at(2048) == std::vector<std::int64_t>{0, 0, 0, 3328});
  CHECK(reads_at(2056) == std::vector<std::int64_t>{0, 0, 257 * 6, 3328});
  CHECK(reads_at(8192) == std::vector<std::int64_t>{0, 0, 1024 * 6, 3328});
  CHECK(reads_at(8224) == std::vector<std::int64_t>{0, 257 * 10, 1024 * 6, 3328});
  CHECK(reads_at(32768) == std::vector<std::int64_t>{0, 1024 * 10, 1024 * 6, 3328});
  CHECK(reads_at(32768 + 256) == std::vector<std::int64_t>{129 * 16, 1024 * 10, 1024 * 6, 3328});
}

TEST_CASE("the landmark presets read what the algorithm page says") {
  // The rows of its table, each with the preset for its length; behind the last stage what a row
  // attends to.
  using Reads = std::vector<std::int64_t>;
  constexpr std::int64_t kThousand = 1024;
  const auto reads_at = [](std::int64_t tokens) {
    return key_reads(presets::landmark(tokens), tokens - 1, 1);
  };
  CHECK(reads_at(8 * kThousand) == Reads{0, 6912, 3328});
  CHECK(reads_at(32 * kThousand) == Reads{492, 8192, 3328});
  CHECK(reads_at(128 * kThousand) == Reads{2028, 8192, 3328});
  CHECK(reads_at(256 * kThousand) == Reads{4076, 8192, 3328});
  CHECK(reads_at(kMillion) == Reads{4091, 1024, 8192, 3328});
  CHECK(reads_at(4 * kMillion) == Reads{4094, 1024, 1024, 8192, 4096});
  CHECK(reads_at(16 * kMillion) == Reads{4094, 1024, 1024, 1024, 8192, 10240});
  CHECK(key_reads(presets::landmark_1k(kMillion), kMillion - 1, 1).back() == 256 + 1024 + 512);
  CHECK(key_reads(presets::landmark_1k(32768), 32767, 1) == Reads{502, 8192, 1664});
}

TEST_CASE("a landmark preset reads at most so much at every length that it is made for") {
  for (std::int64_t tokens = 4096; tokens < std::int64_t{1} << 31; tokens += tokens / 3) {
    for (const HipConfig& config : {presets::landmark(tokens), presets::landmark_1k(tokens)}) {
      const auto reads = key_reads(config, tokens - 1, 1);
      CAPTURE(tokens, config.num_stages());
      CHECK(reads.front() <= config.max_first_chunks);
      for (int s = 1; s + 1 < config.num_stages(); ++s) CHECK(reads[s] <= 1024);
      CHECK(reads[config.num_stages() - 1] <= 8192);
      const double fours = std::log2(static_cast<double>(tokens) / (4096 * 64)) / 2;
      CHECK(config.num_stages() == 2 + std::max(0, static_cast<int>(std::ceil(fours))));
    }
  }
}

TEST_CASE("the halving search skips the stages that cannot drop anything") {
  const HipConfig config = presets::hip_classic(131072, 512, 32);
  const std::int64_t stages = config.num_stages();
  REQUIRE(config.stages.front().chunk_size == 131072 * 32 / 512);
  for (const std::int64_t candidates : {512, 1024, 32768, 131072}) {
    const auto reads = key_reads(config, candidates + 32 - 1, 1);
    // One key for each chunk of the 32 that enter a stage: keep / chunk is 16, halved chunks
    // are 32.
    for (std::int64_t s = 0; s < stages; ++s) {
      const std::int64_t count = candidates / config.stages[s].chunk_size;
      CAPTURE(candidates, s);
      CHECK(reads[s] == (count > 16 ? 32 : 0));
    }
  }
}

}  // namespace
}  // namespace hip_attn
