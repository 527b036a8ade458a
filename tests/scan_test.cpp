// The search of the CPU backend without any tensor: keys score what a function of their position
// says.
#include "hip_attn/cpu/scan.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cpu/search.hpp"
#include "hip_attn/cpu/select.hpp"
#include "support/configs.hpp"
#include "support/key_scorer.hpp"
#include "support/reference.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

// Few levels make many ties; one level makes ties everywhere.
float level_score(std::uint64_t seed, std::int64_t levels, int stage, std::int64_t key) {
  return static_cast<float>(mix(mix(seed, stage), key) % levels);
}

/// The library's search with its scratch memory made as small as the plan allows.
template <typename Score>
SearchResult library_search(const HipConfig& config, std::int64_t w0, Score&& score,
                            int first_stage = 0, const SearchResult* remembered = nullptr) {
  const std::int64_t used_w0 = remembered ? remembered->w0 : w0;
  // Of requests that have no more candidates than these.
  const SearchPlan plan = make_search_plan(config, used_w0 + config.window);
  const auto candidates = static_cast<std::int32_t>(used_w0 - config.sink);
  const auto size = static_cast<std::size_t>(plan.max_chunks);
  std::vector<std::int32_t> starts(size), other_starts(size);
  std::vector<float> scores(size), scratch(size);
  std::vector<float> row_logits(size);
  std::vector<float> products(cpu::kScanBatchKeys);
  cpu::SearchMemory memory{.starts = starts.data(),
                           .other_starts = other_starts.data(),
                           .scores = scores.data(),
                           .scratch = scratch.data(),
                           .row_logits = row_logits.data()};

  SearchResult result;
  result.w0 = w0;
  std::int64_t count = 0;
  if (first_stage > 0) {
    result = *remembered;
    for (const Chunk& chunk : result.survivors[first_stage - 1]) {
      memory.starts[count++] = static_cast<std::int32_t>(chunk.begin);
    }
  }
  result.survivors.resize(config.stages.size());
  result.key_reads.assign(config.stages.size(), 0);
  const auto scorer_of = [&](int stage) {
    return KeyScorer{[&, stage](const std::int32_t* positions, int n, float* a) {
      REQUIRE((n > 0 && n <= cpu::kScanBatchKeys));
      for (int i = 0; i < n; ++i) {
        REQUIRE((positions[i] >= config.sink && positions[i] < result.w0));
        a[i] = score(stage, positions[i]);
      }
    }};
  };
  const auto on_survivors = [&](int stage, const std::int32_t* survivors, std::int64_t n) {
    const std::int64_t chunk_size = std::int64_t{1} << plan.chunk_shift(stage, candidates);
    result.survivors[stage].clear();
    for (std::int64_t i = 0; i < n; ++i) {
      result.survivors[stage].push_back(
          {survivors[i], std::min(survivors[i] + chunk_size, result.w0)});
    }
  };
  cpu::TreeSearch<> search(plan, static_cast<std::int32_t>(result.w0),
                           {first_stage, plan.num_stages}, count, memory);
  const auto [blocks, selected] = cpu::run_search(
      search, scorer_of, on_survivors, result.key_reads.data(), {1.f, 0.f}, products.data());
  REQUIRE(selected <= plan.max_selected_blocks);
  result.blocks.clear();
  for (std::int64_t i = 0; i < selected; ++i) {
    result.blocks.push_back(blocks[i] / config.block_k());
  }
  return result;
}

void check_same(const SearchResult& actual, const SearchResult& expected) {
  CHECK(actual.blocks == expected.blocks);
  CHECK(actual.key_reads == expected.key_reads);
  CHECK((actual.survivors == expected.survivors));
}

TEST_CASE("the search is the brute-force search on random configurations and lengths") {
  Choices choices(2024);
  int searched = 0;
  int doubled = 0;
  for (int trial = 0; trial < 2500; ++trial) {
    const HipConfig config = with_maxima(random_config(choices, 4));
    if (config.is_dense() || config.is_window_only()) continue;
    CAPTURE(trial, describe(config));
    REQUIRE(validate(config).ok());
    const std::int64_t p0 = choices.between(0, choices.of({40, 300, 2000}));
    const std::int64_t levels = choices.of({1, 2, 5, 1000000});
    const auto score = [&](int stage, std::int64_t key) {
      return level_score(trial, levels, stage, key);
    };
    const std::int64_t w0 = reference_window_start(config, p0);
    const SearchResult expected = reference_search(config, w0, OneRow{score});
    check_same(library_search(config, w0, score), expected);
    searched += expected.key_reads.back() > 0;
    doubled += w0 - config.sink > config.stages[0].chunk_size * config.max_first_chunks;
  }
  // The configurations are worth something.
  CHECK(searched > 300);
  CHECK(doubled > 100);
}

TEST_CASE("the search goes on from any stage's survivors as brute force does") {
  Choices choices(2025);
  for (int trial = 0; trial < 500; ++trial) {
    const HipConfig config = with_maxima(random_config(choices, 4));
    if (config.is_dense() || config.is_window_only()) continue;
    CAPTURE(trial, describe(config));
    const std::int64_t w0 = reference_window_start(config, choices.between(50, 1000));
    const auto before = [&](int stage, std::int64_t key) {
      return level_score(trial, 50, stage, key);
    };
    const auto now = [&](int stage, std::int64_t key) {
      return level_score(trial + 1000, 50, stage, key);
    };
    const SearchResult remembered = reference_search(config, w0, OneRow{before});
    for (int first = 0; first <= config.num_stages(); ++first) {
      check_same(library_search(config, w0, now, first, &remembered),
                 reference_search(config, w0, OneRow{now}, first, &remembered));
    }
  }
}

// Of one chunk: its score and the number of keys read.
template <typename ScoreKeys>
std::pair<float, std::int64_t> read_chunk(ScanRule rule, std::int64_t begin, std::int64_t end,
                                          ScoreKeys&& score_keys) {
  const KeyScorer scorer{score_keys};
  cpu::ChunkMaxima logits(scorer);
  const auto start = static_cast<std::int32_t>(begin);
  float score = 0;
  const std::int64_t reads = cpu::BuiltRules::visit(rule, [&](auto type) {
    return cpu::scan_chunks(type, &start, 1, std::int64_t{1} << 40, end, logits,
                            [&](std::int64_t) { logits.move_to(&score); });
  });
  return {score, reads};
}

TEST_CASE("a chunk of every size is scored as the definition says") {
  const ScanRule rule = GENERATE(ScanRule::kDescent, ScanRule::kCentre, ScanRule::kEveryKey);
  for (std::int64_t length = 1; length <= 300; ++length) {
    const std::int64_t begin = 1000 + length;
    const auto a = [&](std::int64_t key) { return level_score(7, 20, 0, key); };
    std::int64_t expected_reads = 0;
    const auto of_key = [&](int, std::int64_t key) { return a(key); };
    const double expected =
        chunk_logits(0, {.rule = rule}, {begin, begin + length}, OneRow{of_key}, expected_reads)
            .front();
    const auto [score, reads] = read_chunk(rule, begin, begin + length,
                                           [&](const std::int32_t* positions, int n, float* out) {
                                             for (int i = 0; i < n; ++i) out[i] = a(positions[i]);
                                           });
    CAPTURE(length);
    CHECK(score == expected);
    CHECK(reads == expected_reads);
  }
}

TEST_CASE("a descent reads two keys at each of log2(chunk_size) levels") {
  for (std::int64_t log_size = 1; log_size <= 20; ++log_size) {
    const auto nothing = [](const std::int32_t*, int n, float* a) { std::fill(a, a + n, 0.f); };
    const std::int64_t end = 3 + (std::int64_t{1} << log_size);
    CHECK(read_chunk(ScanRule::kDescent, 3, end, nothing).second == 2 * log_size);
  }
}

TEST_CASE("select keeps the highest scores and, of equal ones, the lower positions") {
  Choices choices(9);
  for (int trial = 0; trial < 400; ++trial) {
    const std::int64_t count = choices.between(2, 100);
    const std::int64_t keep = choices.between(1, count - 1);
    const std::int64_t levels = choices.of({1, 2, 4, 1000});
    std::vector<std::int32_t> starts(count);
    std::vector<float> scores(count), scratch(count);
    for (std::int64_t i = 0; i < count; ++i) {
      starts[i] = static_cast<std::int32_t>(8 * i);
      const float score = level_score(trial, levels, 0, i);
      scores[i] = score == 0.f ? -kInfinity : score == 1.f ? kInfinity : score;
    }
    std::vector<std::int32_t> order(count);
    for (std::int64_t i = 0; i < count; ++i) order[i] = static_cast<std::int32_t>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t x, std::int32_t y) { return scores[x] > scores[y]; });
    order.resize(keep);
    std::sort(order.begin(), order.end());
    for (std::int32_t& i : order) i *= 8;

    CHECK(cpu::select_chunks(starts.data(), scores.data(), count, keep, scratch.data()) == keep);
    starts.resize(keep);
    CHECK(starts == order);
  }
}

}  // namespace
}  // namespace hip_attn
