#include "hip_attn/config.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/checks/config.hpp"
#include "hip_attn/landmarks.hpp"

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
        presets::infinite_hip_softmax_sum(), presets::landmark(131072),
        presets::landmark_1k(131072), presets::hip_classic(131072, 512, 32), presets::dense(),
        HipConfig{}}) {
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
       "config.stages[1].rule is 7; it must be ScanRule::kDescent (0), kCentre (1), kLandmark (2) "
       "or kEveryKey (3)"},
      {[](HipConfig& c) { c.stages[0].rule = static_cast<ScanRule>(-1); },
       "config.stages[0].rule is -1; it must be ScanRule::kDescent (0), kCentre (1), kLandmark (2) "
       "or kEveryKey (3)"},
      {[](HipConfig& c) { c.stages[1].reduction = static_cast<Reduction>(2); },
       "config.stages[1].reduction is 2; it must be Reduction::kMaximum (0) or "
       "Reduction::kSoftmaxSum (1)"},
      {[](HipConfig& c) { c.stages[1].reduction = static_cast<Reduction>(-1); },
       "config.stages[1].reduction is -1; it must be Reduction::kMaximum (0) or "
       "Reduction::kSoftmaxSum (1)"},

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

TEST_CASE("validate says what landmark stages ask of the rest") {
  struct Case {
    std::function<void(HipConfig&)> spoil;
    std::string message;
  };
  const std::vector<Case> cases{
      {[](HipConfig& c) { c.sink = 320; },
       "config.sink is 320; it must be a multiple of the first stage's chunk_size (256), which is "
       "of rule kLandmark"},
      {[](HipConfig& c) { c.window = 255; },
       "config.window is 255; it must be at least the first stage's chunk_size (256), which is of "
       "rule kLandmark"},
      {[](HipConfig& c) { c.stages[0].rule = ScanRule::kDescent; },
       "config.stages[1].rule is 2; a stage of rule kLandmark must come before all others, and "
       "stages[0] is of rule 0"},
      {[](HipConfig& c) { c.stages[2].rule = ScanRule::kLandmark, c.stages[1].rule = {}; },
       "config.stages[2].rule is 2; a stage of rule kLandmark must come before all others, and "
       "stages[1] is of rule 0"},
      {[](HipConfig& c) {
         c.stages.assign(9, c.stages[0]);
         c.refresh_interval.clear();
       },
       "config.stages[8].rule is 2; at most 8 stages are of rule kLandmark"},
      {[](HipConfig& c) { c.max_first_chunks = 255; },
       "config.max_first_chunks is 255; it must be at least stages[0].keep / stages[0].chunk_size "
       "(65536 / 256 = 256)"},
  };
  const HipConfig good = presets::landmark(1 << 20);
  REQUIRE(good.num_stages() == 3);
  REQUIRE(validate(good).ok());
  for (const Case& test : cases) {
    HipConfig config = good;
    test.spoil(config);
    const Status status = validate(config);
    CHECK(status.code() == StatusCode::kInvalidConfig);
    CHECK(status.message() == test.message);
  }

  // The limits themselves.
  HipConfig config = good;
  config.sink = 0;
  config.window = 256;
  config.max_first_chunks = 256;
  CHECK(validate(config).ok());
  // A window alone reads no landmark.
  config = good;
  config.sink = 8;
  config.window = 1;
  config.stages.back().keep = 0;
  CHECK(validate(config).ok());
  CHECK_FALSE(config.uses_landmarks());
  CHECK(landmark_chunk_sizes(config).empty());
}

TEST_CASE("landmark_chunk_sizes are those of the landmark stages, ascending and each once") {
  CHECK(landmark_chunk_sizes(presets::infinite_hip()).empty());
  CHECK(landmark_chunk_sizes(presets::dense()).empty());
  CHECK(landmark_chunk_sizes(presets::landmark(1 << 20)) == std::vector<std::int64_t>{64, 256});
  HipConfig config = presets::landmark(1 << 20);
  config.stages.insert(config.stages.begin() + 1, config.stages[0]);
  CHECK(landmark_chunk_sizes(config) == std::vector<std::int64_t>{64, 256});
}

TEST_CASE("landmark gains a level of fourfold chunks with every factor of 4 above 256k") {
  constexpr auto kSum = Reduction::kSoftmaxSum;
  constexpr auto kLandmark = ScanRule::kLandmark;
  const ScanStage last{8, 2048, 4, ScanRule::kEveryKey, kSum};
  const ScanStage finest{64, 8192, 4, kLandmark, kSum};
  const ScanStage second{256, 65536, 4, kLandmark, kSum};
  const ScanStage third{1024, 262144, 4, kLandmark, kSum};
  const ScanStage fourth{4096, 1048576, 4, kLandmark, kSum};
  struct Case {
    std::int64_t max_len;
    std::int64_t sink;
    std::int64_t window;
    std::vector<ScanStage> stages;
  };
  constexpr std::int64_t k256 = 256 * 1024;
  const std::vector<Case> cases{
      {1, 256, 1024, {finest, last}},
      {k256, 256, 1024, {finest, last}},
      {k256 + 1, 256, 1024, {second, finest, last}},
      {4 * k256, 256, 1024, {second, finest, last}},
      {4 * k256 + 1, 1024, 1024, {third, second, finest, last}},
      {16 * k256, 1024, 1024, {third, second, finest, last}},
      {16 * k256 + 1, 4096, 4096, {fourth, third, second, finest, last}},
      {64 * k256, 4096, 4096, {fourth, third, second, finest, last}},
  };
  for (const Case& each : cases) {
    CAPTURE(each.max_len);
    const HipConfig config = presets::landmark(each.max_len);
    CHECK(config.stages == each.stages);
    CHECK(config.sink == each.sink);
    CHECK(config.window == each.window);
    CHECK(config.block_q == 64);
    CHECK(config.uses_landmarks());
    CHECK(validate(config).ok());
    std::vector<std::int32_t> intervals(each.stages.size(), 16);
    intervals.back() = 8;
    CHECK(config.refresh_interval == intervals);

    HipConfig half = config;
    half.sink =
        std::max<std::int64_t>(128, each.sink == 256 ? each.stages.front().chunk_size : each.sink);
    half.window = std::max<std::int64_t>(
        512, each.window == 1024 ? each.stages.front().chunk_size : each.window);
    half.stages.back().keep = 1024;
    CHECK(presets::landmark_1k(each.max_len) == half);
  }
}

TEST_CASE("a plan of max_len takes the landmark presets of max_len") {
  for (const std::int64_t max_len :
       {std::int64_t{1}, std::int64_t{1} << 18, (std::int64_t{1} << 18) + 1, std::int64_t{1} << 22,
        (std::int64_t{1} << 24) + 77, std::int64_t{kInt32Max}}) {
    for (const HipConfig& config : {presets::landmark(max_len), presets::landmark_1k(max_len)}) {
      INFO(max_len << " " << message_of(config));
      CHECK(validate(config).ok());
      CHECK(detail::check_first_landmarks(config, max_len).ok());
      CHECK(config.num_stages() <= 9);
      for (int s = 1; s < config.num_stages(); ++s) {
        // What a stage before keeps, in chunks of this stage: each of bounded size.
        CHECK(config.stage(s - 1).keep / config.stage(s).chunk_size <= 1024);
      }
    }
  }
}

TEST_CASE("landmark of lengths that no plan takes fails validate and names the value") {
  CHECK(message_of(presets::landmark(0)) == "config.window is 0; it must be at least 1");
  CHECK(message_of(presets::landmark(-5)) == "config.window is -5; it must be at least 1");
  CHECK(message_of(presets::landmark_1k(kInt64Min)) ==
        "config.window is -9223372036854775808; it must be at least 1");
  CHECK(message_of(presets::landmark(std::int64_t{kInt32Max} + 1)) ==
        "config.stages[1].keep is 2147483648; it must not be above the keep of the stage before it "
        "(8192)");
  CHECK(message_of(presets::landmark_1k(kInt64Max)) ==
        "config.stages[1].keep is 9223372036854775807; it must be a positive multiple of that "
        "stage's chunk_size (8), or 0");
}

TEST_CASE("a plan whose lengths give a landmark stage too many chunks names the preset that fits") {
  HipConfig config = presets::landmark(1);
  // 256 + 1024 tokens are no candidates; W0 is cut to blocks of 8.
  const std::int64_t longest = 256 + 1024 + 4096 * 64 + 7;
  CHECK(detail::check_first_landmarks(config, longest).ok());
  const Status status = detail::check_first_landmarks(config, longest + 1);
  CHECK(status.code() == StatusCode::kInvalidConfig);
  CHECK(status.message() ==
        "config.stages[0].chunk_size is 64; with shape.max_seq_len 263432 the stage, of rule "
        "kLandmark, would score 4097 chunks, and max_first_chunks is 4096; "
        "presets::landmark(263432) has stages of larger chunks in front");
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

  HipConfig sums = base;
  for (ScanStage& stage : sums.stages) stage.reduction = Reduction::kSoftmaxSum;
  CHECK(presets::infinite_hip_softmax_sum() == sums);

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

TEST_CASE("refresh_ahead_at runs stages before the last one step early") {
  const HipConfig config = presets::infinite_hip();
  CHECK(refresh_ahead_at(config, 0) == 0);
  CHECK(refresh_ahead_at(config, 1) == 3);
  CHECK(refresh_ahead_at(config, 8) == 2);
  CHECK(refresh_ahead_at(config, 15) == search_ahead_from(1));
  CHECK(refresh_ahead_at(config, 16) == 2);
  CHECK(refresh_ahead_at(config, 31) == search_ahead_from(0));
  CHECK(refresh_ahead_at(config, 32) == 2);
}

TEST_CASE("refresh_ahead_at leaves no stage out and runs none twice") {
  for (const std::vector<std::int32_t>& intervals : {std::vector<std::int32_t>{32, 16, 8},
                                                     {96, 24, 8},
                                                     {1, 1, 1},
                                                     {2, 2, 2},
                                                     {5, 3, 7},
                                                     {16, 1, 1},
                                                     {3, 2, 1}}) {
    HipConfig config = presets::infinite_hip();
    config.refresh_interval = intervals;
    std::int32_t searched = 3;  // from where on in the step before
    for (std::int64_t step = 0; step < 200; ++step) {
      const std::int32_t from = refresh_ahead_at(config, step);
      const std::int32_t due = refresh_from_at(config, step);
      INFO("step " << step);
      if (searched < 3) {
        CHECK(from == 2);
        CHECK(due == searched);
      } else {
        CHECK(std::max(from, 0) == (from < 0 ? 0 : due));
        if (from < 0) CHECK(due == 3);
      }
      searched = from < 0 ? -1 - from : 3;
      // Not left to the next step only where something is due in this one, or it is the first.
      const std::int32_t next = refresh_from_at(config, step + 1);
      CHECK((searched < 3) == (step > 0 && due == 3 && next < 2));
    }
  }
}

TEST_CASE("refresh_ahead_at is refresh_from_at where there is nothing to search ahead") {
  HipConfig config = presets::infinite_hip();
  config.stages.erase(config.stages.begin(), config.stages.begin() + 2);
  config.refresh_interval = {8};
  for (std::int64_t step = 0; step < 40; ++step)
    CHECK(refresh_ahead_at(config, step) == refresh_from_at(config, step));
  for (const std::int64_t step : {kInt64Min, std::int64_t{-1}, std::int64_t{5}, kInt64Max}) {
    CHECK(refresh_ahead_at(presets::dense(), step) == 0);
    CHECK(refresh_ahead_at(presets::sliding_window(10), step) ==
          refresh_from_at(presets::sliding_window(10), step));
  }
  config = presets::infinite_hip();
  CHECK(refresh_ahead_at(config, kInt64Max) == refresh_from_at(config, kInt64Max));
  CHECK(refresh_ahead_at(config, kInt64Min) == refresh_from_at(config, kInt64Min));
}

}  // namespace
}  // namespace hip_attn
