// The plain functions of include/hip_attn/core, where their numbers end.
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "hip_attn/core/attended_keys.hpp"
#include "hip_attn/core/cache_layout.hpp"
#include "hip_attn/core/search_plan.hpp"
#include "support/configs.hpp"
#include "support/reference.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min();

TEST_CASE("attended keys are listed in order, in runs of neighbours") {
  Choices choices(1);
  for (int trial = 0; trial < 300; ++trial) {
    HipConfig config = random_config(choices, 3);
    const std::int64_t p = choices.between(0, 200);
    const std::int64_t w0 = reference_window_start(config, p);
    const std::int32_t block_k = config.block_k();
    std::vector<std::int32_t> numbers;
    for (std::int64_t at = config.sink; at + block_k <= w0; at += block_k) {
      if (choices.one_in(2)) numbers.push_back(static_cast<std::int32_t>(at / block_k));
    }
    const auto expected = attended_keys(config, numbers, w0, p);

    const SearchPlan plan = make_search_plan(config, 1000);
    const bool as_numbers = choices.one_in(2);
    std::vector<std::int32_t> blocks = numbers;
    if (!as_numbers) {
      for (std::int32_t& block : blocks) block *= block_k;
    }
    // A unit of more rows than this one, which stands at p.
    const AttendedKeys unit{static_cast<std::int32_t>(config.sink),
                            blocks.data(),
                            static_cast<std::int32_t>(blocks.size()),
                            as_numbers ? plan.block_shift : 0,
                            plan.block_shift,
                            static_cast<std::int32_t>(w0),
                            static_cast<std::int32_t>(p) + 5};
    const AttendedKeys keys = unit.until(static_cast<std::int32_t>(p), plan.row_window);
    CAPTURE(describe(config), p, w0);
    REQUIRE(keys.count() == static_cast<std::int32_t>(expected.size()));
    for (std::int32_t i = 0; i < keys.count();) {
      const std::int32_t run = keys.run_length(i);
      REQUIRE((run > 0 && i + run <= keys.count()));
      for (const std::int32_t end = i + run, first = keys.position(i), begin = i; i < end; ++i) {
        REQUIRE(keys.position(i) == expected[static_cast<std::size_t>(i)]);
        REQUIRE(keys.position(i) == first + (i - begin));
      }
    }
  }
}

TEST_CASE("a search plan of the longest sequence fits its 32 bits") {
  HipConfig config = small_config();
  config.max_first_chunks = config.stages[0].keep / config.stages[0].chunk_size;
  const SearchPlan plan = make_search_plan(config, kMost);
  const std::int32_t w0 = plan.window_start(kMost - 1);
  CHECK(w0 == window_start(config, kMost - 1));
  CHECK(plan.max_candidates == w0 - plan.sink);
  const std::int32_t shift = plan.chunk_shift(0, plan.max_candidates);
  CHECK(plan.max_candidates <= config.max_first_chunks << shift);
  CHECK(plan.max_candidates > config.max_first_chunks << (shift - 1));
  CHECK(plan.kept_chunks(0, shift) == 1);
  CHECK(first_chunk_shift(0, 1, kMost) == 31);  // one chunk of 2^31 keys
  CHECK(first_chunk_shift(5, kMost, kMost) == 5);

  // Everything is kept, whatever number says so.
  config.stages = {{256, std::int64_t{1} << 40, 1, ScanRule::kDescent}};
  config.max_first_chunks = std::int64_t{1} << 40;
  const SearchPlan all = make_search_plan(config, kMost);
  CHECK(all.kept_chunks(0, all.chunk_shift(0, all.max_candidates)) >= all.max_chunks);
}

TEST_CASE("a window that is no search's, and a chunk out of place, do not hold") {
  const SearchPlan plan = make_search_plan(small_config(), 300);
  const std::int32_t w0 = plan.window_start(299);
  CHECK(plan.cached_window_holds(w0));
  CHECK(plan.cached_window_holds(plan.sink));
  for (const std::int32_t bad : {w0 + 4, w0 - 1, plan.sink - 4, 0, -1, kLeast, kMost}) {
    CAPTURE(bad);
    CHECK_FALSE(plan.cached_window_holds(bad));
  }
  const auto holds = [&](std::int32_t start, std::int32_t before, bool is_first) {
    return cached_chunk_holds(start, before, is_first, 16, 80, 3);
  };
  CHECK(holds(16, kMost, true));
  CHECK(holds(72, 64, false));
  CHECK_FALSE(holds(72, 72, false));
  for (const std::int32_t bad : {8, 17, 76, 80, -8, kLeast, kMost}) {
    CAPTURE(bad);
    CHECK_FALSE(holds(bad, 0, true));
  }
  for (const std::int32_t bad : {3, 20, -4, kLeast, kMost}) {
    CAPTURE(bad);
    CHECK_FALSE(given_block_holds(bad, 0, true, 16, 80, 2));
  }
  CHECK(given_block_holds(19, 18, false, 16, 80, 2));
  CHECK_FALSE(given_block_holds(19, 19, false, 16, 80, 2));
  CHECK_FALSE(given_block_holds(19, 18, false, 16, 79, 2));
}

}  // namespace
}  // namespace hip_attn
