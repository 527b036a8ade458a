#include "hip_attn/config.hpp"

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"

namespace hip_attn {
namespace {

constexpr auto kInt32Max = std::numeric_limits<std::int32_t>::max();
constexpr auto kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr auto kInt64Max = std::numeric_limits<std::int64_t>::max();
constexpr auto kInt64Min = std::numeric_limits<std::int64_t>::min();

std::string message_of(const HipConfig& config) { return validate(config).message(); }

TEST_CASE("a configuration has up to kMaxStages stages") {
  HipConfig config;
  config.stages.assign(kMaxStages, ScanStage{4, 32, 1, ScanRule::kCentre});
  CHECK(validate(config).ok());
  config.stages.push_back(config.stages.back());
  CHECK(message_of(config) == "config.stages is 33 stages; it must hold at most 32");
}

TEST_CASE("every preset is valid") {
  for (const HipConfig& config :
       {presets::infinite_hip(), presets::infinite_hip_fast(), presets::infinite_hip_5k(),
        presets::hip_classic(131072, 512, 32), presets::dense(), HipConfig{}}) {
    INFO(message_of(config));
    CHECK(validate(config).ok());
  }
}

TEST_CASE("validate accepts the limits of every rule") {
  HipConfig config;
  config.sink = kInt64Max;  // a multiple of block_k = 1
  config.window = kInt64Max;
  config.block_q = kInt32Max;
  config.max_first_chunks = kInt64Max;
  config.stages = {{1, kInt64Max, kInt32Max, ScanRule::kCentre}, {1, kInt64Max, 1}};
  config.refresh_interval = {kInt32Max, 1};
  INFO(message_of(config));
  CHECK(validate(config).ok());

  config = HipConfig{};
  config.block_q = 1;
  config.stages = {{1 << 30, std::int64_t{1} << 40}};
  config.max_first_chunks = 1024;
  CHECK(validate(config).ok());
}

TEST_CASE("validate names the field, its value and the rule") {
  struct Case {
    std::function<void(HipConfig&)> spoil;
    std::string message;
  };
  const std::vector<Case> cases{
      {[](HipConfig& c) { c.sink = -8; }, "config.sink is -8; it must be at least 0"},
      {[](HipConfig& c) { c.sink = kInt64Min; },
       "config.sink is -9223372036854775808; it must be at least 0"},
      {[](HipConfig& c) { c.sink = 100; },
       "config.sink is 100; it must be a multiple of block_k, the last stage's chunk_size (8)"},
      {[](HipConfig& c) { c.sink = kInt64Max; },
       "config.sink is 9223372036854775807; it must be a multiple of block_k, the last stage's "
       "chunk_size (8)"},
      {[](HipConfig& c) { c.window = 0; }, "config.window is 0; it must be at least 1"},
      {[](HipConfig& c) { c.window = kInt64Min; },
       "config.window is -9223372036854775808; it must be at least 1"},
      {[](HipConfig& c) { c.block_q = 0; }, "config.block_q is 0; it must be at least 1"},
      {[](HipConfig& c) { c.block_q = kInt32Min; },
       "config.block_q is -2147483648; it must be at least 1"},

      {[](HipConfig& c) { c.stages[0].chunk_size = 0; },
       "config.stages[0].chunk_size is 0; it must be a power of two"},
      {[](HipConfig& c) { c.stages[1].chunk_size = 48; },
       "config.stages[1].chunk_size is 48; it must be a power of two"},
      {[](HipConfig& c) { c.stages[2].chunk_size = -8; },
       "config.stages[2].chunk_size is -8; it must be a power of two"},
      // The one negative value whose bits are a power of two's.
      {[](HipConfig& c) { c.stages[2].chunk_size = kInt32Min; },
       "config.stages[2].chunk_size is -2147483648; it must be a power of two"},
      {[](HipConfig& c) { c.stages[2].chunk_size = 64; },
       "config.stages[2].chunk_size is 64; it must divide the chunk_size of the stage before it "
       "(32)"},

      {[](HipConfig& c) { c.stages[1].keep = 100; },
       "config.stages[1].keep is 100; it must be a positive multiple of that stage's chunk_size "
       "(32)"},
      {[](HipConfig& c) { c.stages[1].keep = 0; },
       "config.stages[1].keep is 0; it must be a positive multiple of that stage's chunk_size "
       "(32)"},
      {[](HipConfig& c) { c.stages[0].keep = -256; },
       "config.stages[0].keep is -256; it must be a positive multiple of that stage's chunk_size "
       "(256)"},
      {[](HipConfig& c) { c.stages[0].keep = kInt64Max; },
       "config.stages[0].keep is 9223372036854775807; it must be a positive multiple of that "
       "stage's chunk_size (256)"},
      {[](HipConfig& c) { c.stages[2].keep = 8200; },
       "config.stages[2].keep is 8200; it must not be above the keep of the stage before it "
       "(8192)"},

      {[](HipConfig& c) { c.stages[0].query_stride = 0; },
       "config.stages[0].query_stride is 0; it must be at least 1 and divide block_q (64)"},
      {[](HipConfig& c) { c.stages[0].query_stride = 3; },
       "config.stages[0].query_stride is 3; it must be at least 1 and divide block_q (64)"},
      {[](HipConfig& c) { c.stages[1].query_stride = 128; },
       "config.stages[1].query_stride is 128; it must be at least 1 and divide block_q (64)"},
      {[](HipConfig& c) { c.stages[2].query_stride = -1; },
       "config.stages[2].query_stride is -1; it must be at least 1 and divide block_q (64)"},
      {[](HipConfig& c) { c.stages[1].rule = static_cast<ScanRule>(7); },
       "config.stages[1].rule is 7; it must be ScanRule::kDescent (0) or ScanRule::kCentre (1)"},

      {[](HipConfig& c) {
         c.refresh_interval = {32, 16};
       },
       "config.refresh_interval is 2 numbers; it must be empty or hold one number per stage (3)"},
      {[](HipConfig& c) { c.stages.clear(); },
       "config.refresh_interval is 3 numbers; it must be empty or hold one number per stage (0)"},
      {[](HipConfig& c) { c.refresh_interval[1] = 0; },
       "config.refresh_interval[1] is 0; it must be at least 1"},
      {[](HipConfig& c) { c.max_first_chunks = 0; },
       "config.max_first_chunks is 0; it must be at least 1"},
      {[](HipConfig& c) { c.max_first_chunks = kInt64Min; },
       "config.max_first_chunks is -9223372036854775808; it must be at least 1"},
      {[](HipConfig& c) { c.max_first_chunks = 127; },
       "config.max_first_chunks is 127; it must be at least stages[0].keep / stages[0].chunk_size "
       "(32768 / 256 = 128)"},
  };
  for (const Case& test : cases) {
    HipConfig config = presets::infinite_hip();
    test.spoil(config);
    const Status status = validate(config);
    CHECK(status.code() == StatusCode::kInvalidConfig);
    CHECK(status.message() == test.message);
  }
}

TEST_CASE("max_first_chunks is checked without stages too") {
  HipConfig config = presets::dense();
  config.max_first_chunks = 0;
  CHECK(message_of(config) == "config.max_first_chunks is 0; it must be at least 1");
}

TEST_CASE("presets have the values of their papers") {
  const HipConfig base = presets::infinite_hip();
  CHECK(base.sink == 256);
  CHECK(base.window == 1024);
  CHECK(base.block_q == 64);
  CHECK(base.block_k() == 8);
  CHECK(base.max_first_chunks == 4096);
  CHECK(base.refresh_interval == std::vector<std::int32_t>{32, 16, 8});
  CHECK(base.stages == std::vector<ScanStage>{{256, 32768, 4, ScanRule::kDescent},
                                              {32, 8192, 4, ScanRule::kDescent},
                                              {8, 2048, 1, ScanRule::kDescent}});

  HipConfig fast = base;
  fast.refresh_interval = {96, 24, 8};
  CHECK(presets::infinite_hip_fast() == fast);

  HipConfig larger = base;
  larger.stages[2].keep = 4096;
  CHECK(presets::infinite_hip_5k() == larger);

  CHECK(presets::dense() == HipConfig{});
  CHECK(presets::dense().is_dense());
}

TEST_CASE("hip_classic halves from the power of two that covers the length") {
  // 131072 * 32 / 512 = 8192, a power of two; 16 chunks of each size are kept.
  const HipConfig config = presets::hip_classic(131072, 512, 32);
  CHECK(config.stages == std::vector<ScanStage>{{8192, 131072, 1, ScanRule::kCentre},
                                                {4096, 65536, 1, ScanRule::kCentre},
                                                {2048, 32768, 1, ScanRule::kCentre},
                                                {1024, 16384, 1, ScanRule::kCentre},
                                                {512, 8192, 1, ScanRule::kCentre},
                                                {256, 4096, 1, ScanRule::kCentre},
                                                {128, 2048, 1, ScanRule::kCentre},
                                                {64, 1024, 1, ScanRule::kCentre},
                                                {32, 512, 1, ScanRule::kCentre}});
  CHECK(config.sink == 0);
  CHECK(config.window == 32);
  CHECK(config.refresh_interval.empty());
  CHECK(config.max_first_chunks == 4096);
  CHECK(config.block_k() == 32);

  // 1000 * 4 / 48 = 83.3, so C is 128; 12 chunks are kept.
  CHECK(presets::hip_classic(1000, 48, 4).stages ==
        std::vector<ScanStage>{{128, 1536, 1, ScanRule::kCentre},
                               {64, 768, 1, ScanRule::kCentre},
                               {32, 384, 1, ScanRule::kCentre},
                               {16, 192, 1, ScanRule::kCentre},
                               {8, 96, 1, ScanRule::kCentre},
                               {4, 48, 1, ScanRule::kCentre}});

  // One token more than 4 chunks of 64 hold: C is 128, not 64.
  CHECK(presets::hip_classic(256, 128, 32).stages.front().chunk_size == 64);
  CHECK(presets::hip_classic(257, 128, 32).stages.front().chunk_size == 128);

  // Shorter than k: block_k is the only stage.
  CHECK(presets::hip_classic(1, 512, 32).stages ==
        std::vector<ScanStage>{{32, 512, 1, ScanRule::kCentre}});

  // More chunks kept than the default bound on the first stage's.
  CHECK(presets::hip_classic(1 << 20, 8192, 1).max_first_chunks == 8192);
}

TEST_CASE("hip_classic of any good arguments is valid and covers the length") {
  for (const std::int64_t max_len :
       {std::int64_t{1}, std::int64_t{4095}, std::int64_t{1} << 30, std::int64_t{kInt32Max}})
    for (const std::int32_t block_k : {1, 8, 64, 1 << 30})
      for (const std::int64_t kept : {std::int64_t{2}, std::int64_t{3}, std::int64_t{5000}}) {
        const HipConfig config = presets::hip_classic(max_len, kept * block_k, block_k);
        INFO(max_len << " " << block_k << " " << kept << " " << message_of(config));
        CHECK(validate(config).ok());
        CHECK(config.stages.front().keep >= max_len);
        CHECK(config.block_k() == block_k);
        for (const ScanStage& stage : config.stages) CHECK(stage.keep == kept * stage.chunk_size);
      }
}

TEST_CASE("hip_classic does not overflow") {
  for (const std::int64_t max_len : {std::int64_t{1}, kInt64Max - 1, kInt64Max})
    for (const std::int64_t k :
         {std::int64_t{1}, std::int64_t{1} << 33, std::int64_t{1} << 62, kInt64Max}) {
      const HipConfig config = presets::hip_classic(max_len, k, 1);
      INFO(max_len << " " << k << " " << message_of(config));
      CHECK(validate(config).ok());
      CHECK(config.stages.front().chunk_size <= 1 << 30);
    }
}

TEST_CASE("hip_classic of bad arguments fails validate and names the value") {
  CHECK(message_of(presets::hip_classic(1024, 512, 33)) ==
        "config.stages[0].chunk_size is 33; it must be a power of two");
  CHECK(message_of(presets::hip_classic(1024, 512, 0)) ==
        "config.stages[0].chunk_size is 0; it must be a power of two");
  CHECK(message_of(presets::hip_classic(1024, 512, kInt32Min)) ==
        "config.stages[0].chunk_size is -2147483648; it must be a power of two");
  CHECK(message_of(presets::hip_classic(1024, 100, 32)) ==
        "config.stages[0].keep is 100; it must be a positive multiple of that stage's chunk_size "
        "(32), or 0");
  CHECK(message_of(presets::hip_classic(1024, kInt64Min, 1)) ==
        "config.stages[0].keep is -9223372036854775808; it must be a positive multiple of that "
        "stage's chunk_size (1), or 0");
  CHECK(message_of(presets::hip_classic(0, 512, 32)) ==
        "config.window is 0; it must be at least 1");
  CHECK(message_of(presets::hip_classic(kInt64Min, 512, 32)) ==
        "config.window is -9223372036854775808; it must be at least 1");
}

TEST_CASE("a last stage that keeps nothing leaves the window alone") {
  HipConfig config = presets::infinite_hip();
  CHECK_FALSE(config.is_window_only());
  CHECK_FALSE(presets::dense().is_window_only());
  config.stages.back().keep = 0;
  CHECK(validate(config).ok());
  CHECK(config.is_window_only());
  CHECK_FALSE(config.is_dense());
  // The window starts at any key, not at a whole number of blocks after the sink.
  CHECK(window_start(config, 256 + 1024 + 4) == 256 + 5);
  CHECK(window_start(config, 100) == 256);

  CHECK(validate(presets::sliding_window(4096)).ok());
  CHECK(presets::sliding_window(4096).is_window_only());
  CHECK(window_start(presets::sliding_window(4096), 4096) == 1);
  CHECK(window_start(presets::sliding_window(7, 3), 100) == 94);
  CHECK(message_of(presets::sliding_window(0)) == "config.window is 0; it must be at least 1");
  CHECK(message_of(presets::sliding_window(8, -1)) == "config.sink is -1; it must be at least 0");
  CHECK(presets::hip_classic(1024, 0, 32).is_window_only());
}

TEST_CASE("refresh_from_at runs a stage at its interval and all stages after it") {
  const HipConfig config = presets::infinite_hip();
  CHECK(refresh_from_at(config, 0) == 0);
  CHECK(refresh_from_at(config, 1) == 3);
  CHECK(refresh_from_at(config, 8) == 2);
  CHECK(refresh_from_at(config, 16) == 1);
  CHECK(refresh_from_at(config, 24) == 2);
  CHECK(refresh_from_at(config, 32) == 0);
  CHECK(refresh_from_at(config, 48) == 1);
  CHECK(refresh_from_at(config, 64) == 0);
}

TEST_CASE("refresh_from_at agrees with counting the steps down") {
  // The last list has a later stage that is due less often than an earlier one, which carries it.
  for (const std::vector<std::int32_t>& intervals :
       {std::vector<std::int32_t>{32, 16, 8}, {96, 24, 8}, {1, 1, 1}, {5, 3, 7}}) {
    HipConfig config = presets::infinite_hip();
    config.refresh_interval = intervals;
    std::vector<std::int32_t> steps_left(intervals.size(), 0);
    for (std::int64_t step = 0; step < 200; ++step) {
      std::int32_t first_due = config.num_stages();
      for (std::size_t s = intervals.size(); s-- > 0;) {
        if (steps_left[s] == 0) {
          first_due = static_cast<std::int32_t>(s);
          steps_left[s] = intervals[s];
        }
        --steps_left[s];
      }
      INFO("step " << step);
      CHECK(refresh_from_at(config, step) == first_due);
    }
  }
}

TEST_CASE("refresh_from_at without intervals runs every stage every step") {
  HipConfig config = presets::infinite_hip();
  config.refresh_interval.clear();
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, std::int64_t{7}, kInt64Max})
    CHECK(refresh_from_at(config, step) == 0);
  CHECK(refresh_from_at(presets::dense(), 0) == 0);
  CHECK(refresh_from_at(presets::dense(), 5) == 0);
}

TEST_CASE("refresh_from_at is defined for intervals that validate refuses") {
  HipConfig config = presets::infinite_hip();
  config.refresh_interval = {32, 0};
  CHECK(refresh_from_at(config, 5) == 1);
  config.refresh_interval = {32};
  CHECK(refresh_from_at(config, 5) == 1);
  config.refresh_interval = {-1, 16, 8};
  CHECK(refresh_from_at(config, kInt64Min) == 0);
  config.refresh_interval = {32, 16, 8, 1};
  CHECK(refresh_from_at(config, 5) == 3);
}

}  // namespace
}  // namespace hip_attn
