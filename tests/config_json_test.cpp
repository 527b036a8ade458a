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

TEST_CASE("text that is not JSON is refused with its place") {
  check_refused("", kMalformed, "the text is not JSON: line 1, column 1");
  check_refused("{\n  \"layers\": [\n}", kMalformed, "the text is not JSON: line 3, column 1");
  check_refused("{} {}", kMalformed, "the text is not JSON: line 1, column 4");
  check_refused("{\"sink_token_size\": 1e999}", kMalformed,
                "the text is not JSON: line 1, column 25");
  check_refused("{\"sink_token_size\": NaN}", kMalformed,
                "the text is not JSON: line 1, column 21");
  check_refused("{\"\xff\": 1}", kMalformed, "the text is not JSON: line 1, column 3");
  check_refused(R"({"layers": [{"stages": [], "stages": []}]})", kMalformed,
                R"(the key "stages" stands twice in one object)");
  check_refused(std::string(2 << 20, ' '), kMalformed,
                "the text has 2097152 bytes; at most 1048576 are accepted");
  CHECK(parsed("\xef\xbb\xbf" + document("")).decode_layers == kDefaultLayers);  // a BOM
}

TEST_CASE("a zero byte is no end of the text") {
  using namespace std::string_literals;
  const std::string whole = document("");
  check_refused(whole + "\n\0"s, kMalformed,
                "the text is not JSON: a zero byte at line 2, column 1");
  check_refused(whole + "\0 and more"s, kMalformed,
                "the text is not JSON: a zero byte at line 1, column 24");
  check_refused("\0"s + whole, kMalformed, "the text is not JSON: line 1, column 1");
  check_refused("{\"using_extend\":\0 false}"s, kMalformed,
                "the text is not JSON: line 1, column 17");
  check_refused("{\"using\0extend\": false}"s, kMalformed,
                "the text is not JSON: line 1, column 8");
}

TEST_CASE("deep nesting is refused, not recursed into") {
  for (const char* open : {"[", "{\"layers\":"}) {
    std::string json;
    while (json.size() < 1'000'000) json += open;
    check_refused(json, kMalformed, "the text nests more than 16 levels deep");
  }
}

TEST_CASE("keys that nobody knows are refused by their path") {
  const std::string layer_keys =
      " is not supported; the keys read here are second_stage_k, sliding_window_size, "
      "sink_token_size, stages, sliding_window_size_for_masking_step";
  const std::string document_keys =
      " is not supported; the keys read here are using_extend, layers, prefill_layers, "
      "dense_layers, mask_refresh_interval, force_dense, decode_always_dense, "
      "prefill_always_dense, prefill_dense_threshold, __using_dense_prefill, second_stage_k, "
      "sliding_window_size, sink_token_size, stages, sliding_window_size_for_masking_step";
  check_refused(R"({"__comment": "hello"})", kUnknown, "__comment" + document_keys);
  check_refused(R"({"odd name\n": 1})", kUnknown, R"(["odd name\n"])" + document_keys);
  check_refused(R"({"": 1})", kUnknown, R"([""])" + document_keys);
  check_refused(document(R"("layers": [{}, {"sinks": 4}])"), kUnknown,
                "layers[1].sinks" + layer_keys);
  check_refused(document(R"("prefill_layers": [{"mask_refresh_interval": 8}])"), kUnknown,
                "prefill_layers[0].mask_refresh_interval" + layer_keys);
  check_refused(document(R"("layers": [{"stages": [{"block_chunk": 64}]}])"), kUnknown,
                "layers[0].stages[0].block_chunk is not supported; the keys read here are "
                "stage_block_size_q, stage_block_stride_q, stage_chunk_size, stage_k, "
                "stage_stride");
}

TEST_CASE("values that cannot be honoured are refused by their path") {
  check_refused(R"({"using_extend": true})", kUnknown,
                "using_extend is true; context extension is not supported: write \"using_extend\": "
                "false");
  check_refused(
      R"({"stages": )" + replaced(kStages, "\"stage_stride\": 1", "\"stage_stride\": 2") + "}",
      kUnknown, "stages[0].stage_stride is 2; only 1 is supported");
  check_refused(layer_document(R"("stages": )" + replaced(kStages, "null", "65536")), kUnknown,
                "layers[0].stages[0].stage_k is 65536; every candidate enters the first stage, so "
                "only null is accepted");
  check_refused(layer_document(R"("sliding_window_size_for_masking_step": [1024, 2048])"), kUnknown,
                "layers[0].sliding_window_size_for_masking_step[1] is 2048; a window that is wider "
                "while stages run is not supported: write sliding_window_size (1024), or leave the "
                "list out");
}

TEST_CASE("keys that contradict each other are refused by name") {
  for (const std::string key : {"second_stage_k", "sliding_window_size", "sink_token_size"})
    check_refused(R"({"layers": [{}], ")" + key + R"(": 256})", kUnknown,
                  key +
                      " stands beside layers; it is accepted in each layer object, or alone for "
                      "all layers");
  check_refused(R"({"prefill_layers": [{}], "stages": )" + kStages + "}", kUnknown,
                "stages stands beside prefill_layers; it is accepted in each layer object, or "
                "alone for all layers");
}

TEST_CASE("values of the wrong type are refused by their path") {
  const auto refused = [](const std::string& json, const std::string& message) {
    check_refused(json, kMalformed, message);
  };
  refused("[]", "the document is a list; an object is accepted");
  refused("7", "the document is 7; an object is accepted");
  refused(R"({"using_extend": 0})", "using_extend is 0; true or false is accepted");
  refused(document(R"("force_dense": 1)"), "force_dense is 1; true or false is accepted");
  refused(document(R"("decode_always_dense": "true")"),
          "decode_always_dense is \"true\"; true or false is accepted");
  refused(document(R"("prefill_always_dense": null)"),
          "prefill_always_dense is null; true or false is accepted");
  refused(document(R"("__using_dense_prefill": 1)"),
          "__using_dense_prefill is 1; true or false is accepted");
  refused(document(R"("prefill_dense_threshold": -2)"),
          "prefill_dense_threshold is -2; an integer from -1 to 2147483647 is accepted");
  refused(document(R"("mask_refresh_interval": "8")"),
          "mask_refresh_interval is \"8\"; an integer, or a list of one integer per stage, is "
          "accepted");
  refused(document(R"("mask_refresh_interval": [])"),
          "mask_refresh_interval is empty; at least one integer is accepted");
  refused(document(R"("mask_refresh_interval": [32, null, 8])"),
          "mask_refresh_interval[1] is null; an integer from 1 to 2147483647 is accepted");
  refused(document(R"("layers": {})"), "layers is an object; a list of layer objects is accepted");
  refused(document(R"("layers": [])"), "layers is empty; at least one layer object is accepted");
  refused(document(R"("layers": [{}, 3])"), "layers[1] is 3; an object is accepted");
  refused(document(R"("prefill_layers": [])"),
          "prefill_layers is empty; at least one layer object is accepted");
  refused(document(R"("dense_layers": 3)"),
          "dense_layers is 3; a list of layer numbers is accepted");
  refused(document(R"("dense_layers": [0, "1"])"),
          "dense_layers[1] is \"1\"; an integer from 0 to 2147483647 is accepted");
  refused(R"({"sink_token_size": true})",
          "sink_token_size is true; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"sink_token_size": [256]})",
          "sink_token_size is a list; an integer from 0 to 9223372036854775807 is accepted");
  refused(layer_document(R"("second_stage_k": null)"),
          "layers[0].second_stage_k is null; an integer from 0 to 9223372036854775807 is accepted");
  refused(layer_document(R"("sliding_window_size_for_masking_step": 1024)"),
          "layers[0].sliding_window_size_for_masking_step is 1024; null or a list of integers is "
          "accepted");
  refused(R"({"stages": {}})", "stages is an object; a list of stage objects is accepted");
  refused(R"({"stages": [1]})", "stages[0] is 1; an object is accepted");
  refused(R"({"stages": )" + replaced(kStages, "8192", "null") + "}",
          "stages[2].stage_k is null; an integer from 1 to 9223372036854775807 is accepted");
  refused(R"({"sink_token_size": ")" + std::string(1000, 'x') + "\"}",
          "sink_token_size is \"" + std::string(59, 'x') +
              "...; an integer from 0 to 9223372036854775807 is accepted");
}

TEST_CASE("numbers that are negative, fractional or out of range are refused by their path") {
  const auto refused = [](const std::string& json, const std::string& message) {
    check_refused(json, kMalformed, message);
  };
  refused(R"({"sink_token_size": -8})",
          "sink_token_size is -8; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"sink_token_size": 256.0})",
          "sink_token_size is 256.0; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"second_stage_k": 2048.5})",
          "second_stage_k is 2048.5; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"sliding_window_size": 0})",
          "sliding_window_size is 0; an integer from 1 to 9223372036854775807 is accepted");
  refused(R"({"sliding_window_size": 9223372036854775808})",
          "sliding_window_size is 9223372036854775808; an integer from 1 to 9223372036854775807 is "
          "accepted");
  refused(document(R"("mask_refresh_interval": 0)"),
          "mask_refresh_interval is 0; an integer from 1 to 2147483647 is accepted");
  refused(document(R"("mask_refresh_interval": 1.5)"),
          "mask_refresh_interval is 1.5; an integer from 1 to 2147483647 is accepted");
  refused(document(R"("mask_refresh_interval": 2147483648)"),
          "mask_refresh_interval is 2147483648; an integer from 1 to 2147483647 is accepted");
  refused(document(R"("dense_layers": [-1])"),
          "dense_layers[0] is -1; an integer from 0 to 2147483647 is accepted");
  refused(R"({"stages": )" + replaced(kStages, "256", "0") + "}",
          "stages[0].stage_chunk_size is 0; an integer from 1 to 2147483647 is accepted");
  refused(R"({"stages": )" + replaced(kStages, "64", "-64") + "}",
          "stages[0].stage_block_size_q is -64; an integer from 1 to 2147483647 is accepted");
  refused(R"({"stages": )" + replaced(kStages, "\"stage_stride\": 1", "\"stage_stride\": 0") + "}",
          "stages[0].stage_stride is 0; an integer from 1 to 2147483647 is accepted");
  CHECK(parsed(R"({"sink_token_size": -0})").decode(0).sink == 0);
  CHECK(parsed(R"({"sliding_window_size": 9223372036854775807})").decode(0).window ==
        std::numeric_limits<std::int64_t>::max());
}

TEST_CASE("a stage key that is missing is named") {
  const auto without = [](std::string_view text) {
    check_refused(R"({"stages": )" + replaced(kTwoStages, text, "") + "}", kMalformed,
                  "stages[1]." + std::string(text.substr(3, text.find('"', 3) - 3)) +
                      " is missing; an integer of at least 1 is accepted");
  };
  without(R"(, "stage_chunk_size": 16)");
  without(R"(, "stage_block_stride_q": 4)");
  without(R"(, "stage_k": 4096)");
  check_refused(R"({"stages": [{}]})", kMalformed,
                "stages[0].stage_block_size_q is missing; an integer of at least 1 is accepted");
}

TEST_CASE("values that break a rule are refused under the path of their layer") {
  check_refused(R"({"sink_token_size": 100})", kInvalid,
                "config.sink is 100; it must be a multiple of block_k, the last stage's chunk_size "
                "(8)");
  check_refused(document(R"("layers": [{}, {"sink_token_size": 100}])"), kInvalid,
                "layers[1]: config.sink is 100; it must be a multiple of block_k, the last stage's "
                "chunk_size (8)");
  check_refused(document(R"("prefill_layers": [{"second_stage_k": 8200}])"), kInvalid,
                "prefill_layers[0]: config.stages[2].keep is 8200; it must not be above the keep "
                "of the stage before it (8192)");
  check_refused(R"({"stages": )" + replaced(kStages, "32768", "1000") + "}", kInvalid,
                "config.stages[0].keep is 1000; it must be a positive multiple of that stage's "
                "chunk_size (256)");
  check_refused(layer_document(R"("stages": [], "second_stage_k": 8)"), kInvalid,
                "layers[0].second_stage_k is given, but layers[0].stages is empty: no stage keeps "
                "anything");
}

}  // namespace
}  // namespace hip_attn
