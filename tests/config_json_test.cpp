#include "hip_attn/config_json.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "hip_attn/attention.hpp"
#include "support/parse_config.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr auto kMalformed = StatusCode::kMalformedJson;
constexpr auto kUnknown = StatusCode::kUnknownKey;
constexpr auto kInvalid = StatusCode::kInvalidConfig;

const std::string kLayer = R"({"sliding_window_size": 1024, "second_stage_k": 2048,
  "sink_token_size": 256, "stages": )" +
                           kStages + "}";

const std::vector<HipConfig> kDefaultLayers = {presets::infinite_hip_5k(), presets::infinite_hip()};

TEST_CASE("the default configuration written out is the default configuration") {
  for (const HipConfig& config :
       {parsed(R"({"mask_refresh_interval": [32, 16, 8], "stages": )" + kStages + "}").decode(0),
        parsed(R"({"stages": )" + kStages + "}").decode(0),
        parsed(document(R"("layers": [)" + kLayer + "]")).decode(0),
        parsed(document(R"("prefill_layers": [)" + kLayer + "]")).prefill(0)}) {
    CHECK(config == presets::infinite_hip());
  }
}

TEST_CASE("a default-constructed ModelConfig is dense") {
  const ModelConfig config;
  CHECK(config.decode(0) == presets::dense());
  CHECK(config.prefill(40) == presets::dense());
  CHECK(config.prefill_dense_until == 0);
}

TEST_CASE("each layer key reaches its field, in the document and in a layer object") {
  const auto both = [](const std::string& members) {
    const ModelConfig own = parsed("{" + members + "}");
    const ModelConfig lists = parsed(layer_document(members));
    for (const std::int32_t layer : {0, 5}) {
      CHECK(own.prefill(layer) == own.decode(layer));
      CHECK(lists.decode(layer) == own.decode(layer));
      CHECK(lists.prefill(layer) == own.decode(layer));
    }
    return own.decode(0);
  };
  HipConfig expected = presets::infinite_hip();
  expected.sink = 8;
  CHECK(both(R"("sink_token_size": 8)") == expected);

  expected = presets::infinite_hip();
  expected.window = 778;
  CHECK(both(R"("sliding_window_size": 778)") == expected);
  CHECK(both(R"("sliding_window_size": 778, "sliding_window_size_for_masking_step": null)") ==
        expected);
  CHECK(both(R"("sliding_window_size": 778, "sliding_window_size_for_masking_step": [778, 778])") ==
        expected);

  CHECK(both(R"("second_stage_k": 4096)") == presets::infinite_hip_5k());

  expected = presets::infinite_hip();
  expected.block_q = 32;
  expected.stages = {{128, 4096, 2}, {16, 1024, 4}};
  expected.refresh_interval = {32, 16};
  CHECK(both(R"("second_stage_k": 1024, "stages": )" + kTwoStages) == expected);

  expected.stages[1].keep = 2048;  // the default's
  CHECK(both(R"("stages": )" + kTwoStages) == expected);
}

TEST_CASE("second_stage_k 0 is the sink and the window alone, whatever the stages") {
  for (const char* stages : {"", R"(, "stages": [{}])", R"(, "stages": [{"stage_k": "x"}])"}) {
    const ModelConfig config = parsed(
        layer_document(R"("second_stage_k": 0, "sink_token_size": 3, "sliding_window_size": 100)" +
                       std::string(stages)));
    for (const HipConfig& layer : {config.decode(1), config.prefill(2)}) {
      CHECK(layer == presets::sliding_window(100, 3));
      CHECK(layer.is_window_only());
      CHECK(layer.window == 100);
      CHECK(layer.sink == 3);
    }
  }
  check_refused(layer_document(R"("second_stage_k": 0, "stages": {})"), kMalformed,
                "layers[0].stages is an object; a list of stage objects is accepted");
}

TEST_CASE("an empty list of stages is dense attention") {
  const ModelConfig config = parsed(document(R"("mask_refresh_interval": [32, 16, 8],
    "dense_layers": [0], "layers": [{"stages": []}, {}])"));
  CHECK(config.decode(0).is_dense());
  CHECK(config.decode(1) == presets::infinite_hip());
}

TEST_CASE("mask_refresh_interval is a number for all stages or a list of one per stage") {
  using Intervals = std::vector<std::int32_t>;
  const auto intervals = [](const std::string& value, const std::string& stages) {
    const ModelConfig config =
        parsed(R"({"mask_refresh_interval": )" + value + R"(, "stages": )" + stages + "}");
    CHECK(config.prefill(0) == config.decode(0));
    return config.decode(0).refresh_interval;
  };
  CHECK(intervals("12", kStages) == Intervals{12, 12, 12});
  CHECK(intervals("[96, 24, 8]", kStages) == Intervals{96, 24, 8});
  CHECK(intervals("5", kTwoStages) == Intervals{5, 5});
  CHECK(intervals("[9, 3]", kTwoStages) == Intervals{9, 3});
  // A stage without a number runs when the one before it does, a number without a stage never.
  CHECK(intervals("[96]", kStages) == Intervals{96, 96, 96});
  CHECK(intervals("[32, 16]", kStages) == Intervals{32, 16, 16});
  CHECK(intervals("[32, 16, 8]", kTwoStages) == Intervals{32, 16});
  CHECK(parsed(document(R"("mask_refresh_interval": [96, 24, 8])")).decode(9) ==
        presets::infinite_hip_fast());
}

TEST_CASE("dense_layers choose the first of two entries") {
  const std::string lists = R"("layers": [{"second_stage_k": 4096}, {}], "prefill_layers": null)";
  const ModelConfig config = parsed(document(R"("dense_layers": [3, 1, 3], )" + lists));
  CHECK(config.dense_layers == std::vector<std::int32_t>{1, 3});
  for (const std::int32_t layer : {1, 3}) {
    CHECK(config.decode(layer) == presets::infinite_hip_5k());
    CHECK(config.prefill(layer) == presets::infinite_hip_5k());
  }
  for (const std::int32_t layer : {0, 2, 1000}) {
    CHECK(config.decode(layer) == presets::infinite_hip());
    CHECK(config.prefill(layer) == presets::infinite_hip());
  }
  const ModelConfig none = parsed(document(R"("dense_layers": [], )" + lists));
  for (const std::int32_t layer : {0, 31}) CHECK(none.decode(layer) == presets::infinite_hip());
}

TEST_CASE("dense_layers beside a single configuration have dense attention") {
  for (const std::string& json :
       {document(R"("dense_layers": [3, 1, 3], "layers": [{}], "prefill_layers": null)"),
        std::string(R"({"dense_layers": [3, 1], "sink_token_size": 256})")}) {
    const ModelConfig config = parsed(json);
    CHECK(config.dense_layers == std::vector<std::int32_t>{1, 3});
    for (const std::int32_t layer : {1, 3}) {
      CHECK(config.decode(layer) == presets::dense());
      CHECK(config.prefill(layer) == presets::dense());
    }
    for (const std::int32_t layer : {0, 2, 4})
      CHECK(config.decode(layer) == presets::infinite_hip());
  }
}

TEST_CASE("three and more entries are one per layer, and the last serves the layers beyond") {
  const ModelConfig config = parsed(document(R"("dense_layers": [1], "layers": [
    {"sliding_window_size": 1}, {"sliding_window_size": 2}, {"sliding_window_size": 3}],
    "prefill_layers": [{"sliding_window_size": 9}])"));
  CHECK(config.decode(0).window == 1);
  CHECK(config.decode(1).window == 2);
  CHECK(config.decode(2).window == 3);
  CHECK(config.decode(3).window == 3);
  CHECK(config.decode(std::numeric_limits<std::int32_t>::max()).window == 3);
  CHECK(config.prefill(0).window == 9);
  CHECK(config.prefill(7).window == 9);
  CHECK(config.prefill(1) == presets::dense());
}

TEST_CASE("a list that is null is as the other") {
  const std::string one = R"([{"sliding_window_size": 5}, {"sliding_window_size": 6}])";
  for (const std::string& json : {document(R"("prefill_layers": null, "layers": )" + one),
                                  document(R"("layers": null, "prefill_layers": )" + one)}) {
    const ModelConfig config = parsed(json);
    CHECK(config.decode(0).window == 5);
    CHECK(config.prefill(0).window == 5);
    CHECK(config.decode(4).window == 6);
    CHECK(config.prefill(4).window == 6);
  }
  CHECK(parsed(document(R"("layers": null)")).decode_layers == kDefaultLayers);
  check_refused(document(R"("layers": null, "prefill_layers": null)"), kMalformed,
                "layers and prefill_layers are null; a list of layer objects is accepted in one of "
                "them");
}

TEST_CASE("dense switches make decode, prefill or both dense") {
  const std::string lists = R"("layers": [{}, {}], "prefill_layers": [{}, {}], )";
  const auto dense = [&](const std::string& key) {
    const ModelConfig config = parsed(document(lists + '"' + key + R"(": true)"));
    const ModelConfig off = parsed(document(lists + '"' + key + R"(": false)"));
    std::string which;
    for (const std::int32_t layer : {0, 3, 17}) {
      CHECK(off.decode(layer) == presets::infinite_hip());
      CHECK(off.prefill(layer) == presets::infinite_hip());
      which += config.decode(layer).is_dense() ? "d" : "-";
      which += config.prefill(layer).is_dense() ? "p " : "- ";
    }
    return which;
  };
  CHECK(dense("force_dense") == "dp dp dp ");
  CHECK(dense("decode_always_dense") == "d- d- d- ");
  CHECK(dense("prefill_always_dense") == "-p -p -p ");
  CHECK(dense("__using_dense_prefill") == "-p -p -- ");  // dense_layers: 0, 1, 2, 3, 31

  const ModelConfig own = parsed(R"({"second_stage_k": 4096, "decode_always_dense": true})");
  CHECK(own.decode(0) == presets::dense());
  CHECK(own.prefill(0) == presets::infinite_hip_5k());
}

TEST_CASE(
    "__using_dense_prefill is for the layers of dense_layers, however many entries there are") {
  const auto prefill_is_dense = [](const std::string& prefill_layers) {
    const ModelConfig config =
        parsed(document(R"("__using_dense_prefill": true, "prefill_layers": )" + prefill_layers));
    CHECK(config.decode_layers == kDefaultLayers);
    std::string which;
    for (const std::int32_t layer : {0, 3, 4, 31, 32})
      which += config.prefill(layer).is_dense() ? 'd' : '-';
    return which;
  };
  CHECK(prefill_is_dense("[{}]") == "dd-d-");
  CHECK(prefill_is_dense("[{}, {}]") == "dd-d-");
  CHECK(prefill_is_dense("[{}, {}, {}, {}, {}]") == "dd---");
  const ModelConfig own = parsed(R"({"second_stage_k": 4096, "__using_dense_prefill": true})");
  CHECK(own.prefill(0) == presets::infinite_hip_5k());
}

TEST_CASE("prefill_dense_threshold says how many tokens a dense query block may have before it") {
  CHECK(parsed(document("")).prefill_dense_until == 0);
  CHECK(parsed(document(R"("prefill_dense_threshold": -1)")).prefill_dense_until == 0);
  CHECK(parsed(document(R"("prefill_dense_threshold": 0)")).prefill_dense_until == 1);
  CHECK(parsed(document(R"("prefill_dense_threshold": 2147483647)")).prefill_dense_until ==
        std::int64_t{1} << 31);

  const ModelConfig model = parsed(document(R"("prefill_dense_threshold": 8192)"));
  AttentionPlan plan;
  plan.dense_until = 4992;
  // [prefill-dense-until]
  plan.dense_until = std::max(plan.dense_until, model.prefill_dense_until);
  // [prefill-dense-until]
  CHECK(plan.dense_until == 8193);
}

TEST_CASE("stages that need more first chunks than the default bound lift it") {
  const HipConfig config = parsed(R"({"second_stage_k": 65536, "sink_token_size": 0, "stages": [
    {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 8}]})")
                               .decode(0);
  CHECK(config.max_first_chunks == 8192);
}

TEST_CASE(
    "query blocks that shrink from stage to stage are read in decode and refused in prefill") {
  const std::string shrinking =
      R"("stages": [
    {"stage_block_size_q": 128, "stage_block_stride_q": 4, "stage_chunk_size": 256},
    {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 8,
     "stage_k": 32768}])";
  const HipConfig config =
      parsed(document(R"("mask_refresh_interval": 5, "layers": [{)" + shrinking + "}]")).decode(0);
  HipConfig expected = presets::infinite_hip();
  expected.block_q = 128;
  expected.stages = {{256, 32768, 4}, {8, 2048, 1}};
  expected.refresh_interval = {5, 5};
  CHECK(config == expected);

  const std::string refusal =
      "stages[1].stage_block_size_q is 64, and 128 in the stage before it; a search that starts "
      "with larger query blocks is not supported in prefill: write one size in all stages";
  check_refused(document(R"("prefill_layers": [{)" + shrinking + "}]"), kUnknown,
                "prefill_layers[0]." + refusal);
  check_refused(layer_document(shrinking), kUnknown, "layers[0]." + refusal);
  check_refused("{" + shrinking + "}", kUnknown, refusal);
  for (const char* size : {"96", "256"})
    check_refused(document(R"("layers": [{)" + replaced(shrinking, "64", size) + "}]"), kInvalid,
                  "layers[0].stages[1].stage_block_size_q is " + std::string(size) +
                      "; it must divide that of the stage before it (128)");
}

}  // namespace
}  // namespace hip_attn
