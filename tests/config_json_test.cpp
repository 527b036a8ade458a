#include "hip_attn/config_json.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

namespace hip_attn {
namespace {

const std::string kStages = R"([
  {"stage_block_size_q": 64, "stage_block_stride_q": 4, "stage_chunk_size": 256,
   "stage_k": null, "stage_stride": 1},
  {"stage_block_size_q": 64, "stage_block_stride_q": 4, "stage_chunk_size": 32,
   "stage_k": 32768, "stage_stride": 1},
  {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 8,
   "stage_k": 8192, "stage_stride": 1}])";

const std::string kLayer = R"({"sliding_window_size": 1024, "second_stage_k": 2048,
  "sink_token_size": 256, "stages": )" +
                           kStages + "}";

/// Every key of the format at once.
const std::string kFull = R"({"mask_refresh_interval": [32, 16, 8], "using_extend": false,
  "dense_layers": [0, 1, 2], "layers": [{"second_stage_k": 4096}, )" +
                          kLayer + R"(], "prefill_layers": [{"second_stage_k": 4096}, )" + kLayer +
                          "]}";

ModelConfig parsed(const std::string& json) {
  ModelConfig config;
  const Status status = parse_model_config(json, config);
  INFO(json << "\n" << status.message());
  REQUIRE(status.ok());
  return config;
}

/// Refused with the code and, word for word, the message; `config` stays as it was.
void check_refused(const std::string& json, StatusCode code, std::string_view message) {
  ModelConfig config;
  config.dense_layers = {77};
  const Status status = parse_model_config(json, config);
  INFO(json);
  CHECK(static_cast<int>(status.code()) == static_cast<int>(code));
  CHECK(status.message() == message);
  CHECK(config.dense_layers == std::vector<std::int32_t>{77});
  CHECK(config.decode_layers.empty());
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

/// Two stages: {128, 4096, 2} {16, 1024, 4}, block_q 32.
const std::string kTwoStages = R"([
  {"stage_block_size_q": 32, "stage_block_stride_q": 2, "stage_chunk_size": 128},
  {"stage_block_size_q": 32, "stage_block_stride_q": 4, "stage_chunk_size": 16, "stage_k": 4096}])";

TEST_CASE("an empty object is the default configuration for every layer") {
  const ModelConfig config = parsed("{}");
  CHECK(config.decode_layers == std::vector<HipConfig>{presets::infinite_hip()});
  CHECK(config.prefill_layers.empty());
  CHECK(config.dense_layers.empty());
  for (const std::int32_t layer : {0, 5, std::numeric_limits<std::int32_t>::max()}) {
    CHECK(config.decode(layer) == presets::infinite_hip());
    CHECK(config.prefill(layer) == presets::infinite_hip());
  }
}

TEST_CASE("the default configuration written out is the default configuration") {
  CHECK(parsed(R"({"mask_refresh_interval": [32, 16, 8], "layers": [)" + kLayer + "]}").decode(0) ==
        presets::infinite_hip());
  CHECK(parsed(R"({"stages": )" + kStages + "}").decode(0) == presets::infinite_hip());
}

TEST_CASE("the default file with two entries is dense_layers and all others") {
  const ModelConfig config = parsed(kFull);
  for (const std::int32_t layer : {0, 1, 2}) {
    CHECK(config.decode(layer) == presets::infinite_hip_5k());
    CHECK(config.prefill(layer) == presets::infinite_hip_5k());
  }
  for (const std::int32_t layer : {3, 31, 1000}) {
    CHECK(config.decode(layer) == presets::infinite_hip());
    CHECK(config.prefill(layer) == presets::infinite_hip());
  }
}

TEST_CASE("a default-constructed ModelConfig is dense") {
  const ModelConfig config;
  CHECK(config.decode(0) == presets::dense());
  CHECK(config.prefill(40) == presets::dense());
}

TEST_CASE("each layer key reaches its field, in the document and in a layer object") {
  const auto both = [](const std::string& key_and_value) {
    const HipConfig config = parsed("{" + key_and_value + "}").decode(0);
    CHECK(parsed(R"({"layers": [{)" + key_and_value + "}]}").decode(0) == config);
    return config;
  };
  HipConfig expected = presets::infinite_hip();
  expected.sink = 8;
  CHECK(both(R"("sink_token_size": 8)") == expected);

  expected = presets::infinite_hip();
  expected.window = 777;
  CHECK(both(R"("sliding_window_size": 777)") == expected);

  CHECK(both(R"("second_stage_k": 4096)") == presets::infinite_hip_5k());

  expected = presets::infinite_hip();
  expected.block_q = 32;
  expected.stages = {{128, 4096, 2}, {16, 1024, 4}};
  expected.refresh_interval.clear();  // the default's three do not fit two stages
  CHECK(both(R"("second_stage_k": 1024, "stages": )" + kTwoStages) == expected);

  expected.stages[1].keep = 2048;  // the default's
  CHECK(both(R"("stages": )" + kTwoStages) == expected);
}

TEST_CASE("an empty list of stages is dense attention") {
  const ModelConfig config = parsed(R"({"mask_refresh_interval": [32, 16, 8],
    "dense_layers": [0], "layers": [{"stages": []}, {}]})");
  CHECK(config.decode(0).is_dense());
  CHECK(config.decode(1) == presets::infinite_hip());
}

TEST_CASE("mask_refresh_interval is a number for all stages or a list of one per stage") {
  using Intervals = std::vector<std::int32_t>;
  CHECK(parsed(R"({"mask_refresh_interval": 12})").decode(0).refresh_interval ==
        Intervals{12, 12, 12});
  CHECK(parsed(R"({"mask_refresh_interval": [96, 24, 8]})").decode(0) ==
        presets::infinite_hip_fast());
  CHECK(parsed(R"({"mask_refresh_interval": 5, "stages": )" + kTwoStages + "}")
            .decode(0)
            .refresh_interval == Intervals{5, 5});
  const ModelConfig config = parsed(R"({"mask_refresh_interval": [9, 3],
    "layers": [{"stages": )" + kTwoStages +
                                    R"(}], "prefill_layers": [{"stages": )" + kTwoStages + "}]}");
  CHECK(config.decode(0).refresh_interval == Intervals{9, 3});
  CHECK(config.prefill(0).refresh_interval == Intervals{9, 3});
}

TEST_CASE("two entries without dense_layers are the second for every layer") {
  const std::string layers = R"("layers": [{"sliding_window_size": 1}, {}])";
  CHECK(parsed("{" + layers + "}").decode(0) == presets::infinite_hip());
  CHECK(parsed("{" + layers + R"(, "dense_layers": []})").decode(1) == presets::infinite_hip());
}

TEST_CASE("dense_layers beside a single configuration have dense attention") {
  for (const char* json :
       {R"({"dense_layers": [3, 1, 3]})", R"({"dense_layers": [1, 3], "layers": [{}]})",
        R"({"dense_layers": [3, 1], "sink_token_size": 256})"}) {
    const ModelConfig config = parsed(json);
    CHECK(config.dense_layers == std::vector<std::int32_t>{1, 3});
    for (const std::int32_t layer : {1, 3}) {
      CHECK(config.decode(layer) == presets::dense());
      CHECK(config.prefill(layer) == presets::dense());
    }
    for (const std::int32_t layer : {0, 2, 4})
      CHECK(config.decode(layer) == presets::infinite_hip());
  }
  const ModelConfig config =
      parsed(R"({"dense_layers": [0], "prefill_layers": [{"second_stage_k": 4096}]})");
  CHECK(config.prefill(0) == presets::dense());
  CHECK(config.prefill(1) == presets::infinite_hip_5k());
  CHECK(config.decode(0) == presets::dense());
  CHECK(config.decode(1) == presets::infinite_hip());
}

TEST_CASE("three and more entries are one per layer, and the last serves the layers beyond") {
  const ModelConfig config = parsed(R"({"layers": [{"sliding_window_size": 1},
    {"sliding_window_size": 2}, {"sliding_window_size": 3}],
    "prefill_layers": [{"sliding_window_size": 9}]})");
  CHECK(config.decode(0).window == 1);
  CHECK(config.decode(1).window == 2);
  CHECK(config.decode(2).window == 3);
  CHECK(config.decode(3).window == 3);
  CHECK(config.decode(std::numeric_limits<std::int32_t>::max()).window == 3);
  CHECK(config.prefill(0).window == 9);
  CHECK(config.prefill(7).window == 9);
}

TEST_CASE("stages that need more first chunks than the default bound lift it") {
  const HipConfig config = parsed(R"({"second_stage_k": 65536, "sink_token_size": 0, "stages": [
    {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 8}]})")
                               .decode(0);
  CHECK(config.max_first_chunks == 8192);
}

TEST_CASE("text that is not JSON is refused with its place") {
  const auto malformed = StatusCode::kMalformedJson;
  check_refused("", malformed, "the text is not JSON: line 1, column 1");
  check_refused("{\n  \"layers\": [\n}", malformed, "the text is not JSON: line 3, column 1");
  check_refused("{} {}", malformed, "the text is not JSON: line 1, column 4");
  check_refused("{\"sink_token_size\": 1e999}", malformed,
                "the text is not JSON: line 1, column 25");
  check_refused("{\"\xff\": 1}", malformed, "the text is not JSON: line 1, column 3");
  check_refused(R"({"layers": [{"stages": [], "stages": []}]})", malformed,
                R"(the key "stages" stands twice in one object)");
  check_refused(std::string(2 << 20, ' '), malformed,
                "the text has 2097152 bytes; at most 1048576 are accepted");
}

TEST_CASE("deep nesting is refused, not recursed into") {
  for (const char* open : {"[", "{\"layers\":"}) {
    std::string json;
    while (json.size() < 1'000'000) json += open;
    check_refused(json, StatusCode::kMalformedJson, "the text nests more than 16 levels deep");
  }
}

TEST_CASE("keys that cannot be honoured are refused by their path") {
  const auto unknown = StatusCode::kUnknownKey;
  const std::string layer_keys =
      " is not supported; the keys accepted here are second_stage_k, sliding_window_size, "
      "sink_token_size, stages";
  const std::string document_keys =
      " is not supported; the keys accepted here are mask_refresh_interval, layers, "
      "prefill_layers, dense_layers, using_extend, second_stage_k, sliding_window_size, "
      "sink_token_size, stages";
  check_refused(R"({"__comment": "hello"})", unknown, "__comment" + document_keys);
  check_refused(R"({"block_sparse_block_size_q": 64})", unknown,
                "block_sparse_block_size_q" + document_keys);
  check_refused(R"({"odd name\n": 1})", unknown, R"(["odd name\n"])" + document_keys);
  check_refused(R"({"": 1})", unknown, R"([""])" + document_keys);
  check_refused(R"({"layers": [{}, {"sa_extend_backend": "streaming"}]})", unknown,
                "layers[1].sa_extend_backend" + layer_keys);
  check_refused(R"({"prefill_layers": [{"mask_refresh_interval": 8}]})", unknown,
                "prefill_layers[0].mask_refresh_interval" + layer_keys);
  check_refused(R"({"layers": [{"stages": [{"stage_extend_backend": "x"}]}]})", unknown,
                "layers[0].stages[0].stage_extend_backend is not supported; the keys accepted here "
                "are stage_block_size_q, stage_block_stride_q, stage_chunk_size, stage_k, "
                "stage_stride");
}

TEST_CASE("values that cannot be honoured are refused by their path") {
  const auto unknown = StatusCode::kUnknownKey;
  check_refused(R"({"using_extend": true})", unknown,
                "using_extend is true; context extension is not supported, only false is accepted");
  check_refused(
      R"({"stages": )" + replaced(kStages, "\"stage_stride\": 1", "\"stage_stride\": 2") + "}",
      unknown, "stages[0].stage_stride is 2; only 1 is supported");
  check_refused(R"({"layers": [{"stages": )" + replaced(kStages, "null", "65536") + "}]}", unknown,
                "layers[0].stages[0].stage_k is 65536; every candidate enters the first stage, so "
                "only null is accepted");
}

TEST_CASE("keys that contradict each other are refused by name") {
  const auto unknown = StatusCode::kUnknownKey;
  for (const std::string key : {"second_stage_k", "sliding_window_size", "sink_token_size"})
    check_refused(R"({"layers": [{}], ")" + key + R"(": 256})", unknown,
                  key +
                      " stands beside layers; it is accepted in each layer object, or alone for "
                      "all layers");
  check_refused(R"({"prefill_layers": [{}], "stages": )" + kStages + "}", unknown,
                "stages stands beside prefill_layers; it is accepted in each layer object, or "
                "alone for all layers");
  check_refused(R"({"dense_layers": [0], "layers": [{}, {}, {}]})", unknown,
                "dense_layers stands beside layers, which has one entry for each of 3 layers; it "
                "is accepted beside at most two entries");
  check_refused(R"({"dense_layers": [0], "prefill_layers": [{}, {}, {}, {}]})", unknown,
                "dense_layers stands beside prefill_layers, which has one entry for each of 4 "
                "layers; it is accepted beside at most two entries");
  CHECK(parsed(R"({"dense_layers": [], "layers": [{}, {}, {}]})").decode_layers.size() == 3);
}

TEST_CASE("values of the wrong type are refused by their path") {
  const auto refused = [](const std::string& json, const std::string& message) {
    check_refused(json, StatusCode::kMalformedJson, message);
  };
  refused("[]", "the document is a list; an object is accepted");
  refused("7", "the document is 7; an object is accepted");
  refused(R"({"using_extend": 0})", "using_extend is 0; false is accepted");
  refused(R"({"mask_refresh_interval": "8"})",
          "mask_refresh_interval is \"8\"; an integer, or a list of one integer per stage, is "
          "accepted");
  refused(R"({"mask_refresh_interval": [32, null, 8]})",
          "mask_refresh_interval[1] is null; an integer from 1 to 2147483647 is accepted");
  refused(R"({"layers": {}})", "layers is an object; a list of layer objects is accepted");
  refused(R"({"layers": null})", "layers is null; a list of layer objects is accepted");
  refused(R"({"layers": []})", "layers is empty; at least one layer object is accepted");
  refused(R"({"layers": [{}, 3]})", "layers[1] is 3; an object is accepted");
  refused(R"({"prefill_layers": []})",
          "prefill_layers is empty; at least one layer object is accepted");
  refused(R"({"dense_layers": 3})", "dense_layers is 3; a list of layer numbers is accepted");
  refused(R"({"dense_layers": [0, "1"]})",
          "dense_layers[1] is \"1\"; an integer from 0 to 2147483647 is accepted");
  refused(R"({"sink_token_size": true})",
          "sink_token_size is true; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"sink_token_size": [256]})",
          "sink_token_size is a list; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"layers": [{"second_stage_k": null}]})",
          "layers[0].second_stage_k is null; an integer from 1 to 9223372036854775807 is accepted");
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
    check_refused(json, StatusCode::kMalformedJson, message);
  };
  refused(R"({"sink_token_size": -8})",
          "sink_token_size is -8; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"sink_token_size": 256.0})",
          "sink_token_size is 256.0; an integer from 0 to 9223372036854775807 is accepted");
  refused(R"({"second_stage_k": 2048.5})",
          "second_stage_k is 2048.5; an integer from 1 to 9223372036854775807 is accepted");
  refused(R"({"sliding_window_size": 0})",
          "sliding_window_size is 0; an integer from 1 to 9223372036854775807 is accepted");
  refused(R"({"sliding_window_size": 9223372036854775808})",
          "sliding_window_size is 9223372036854775808; an integer from 1 to 9223372036854775807 is "
          "accepted");
  refused(R"({"mask_refresh_interval": 0})",
          "mask_refresh_interval is 0; an integer from 1 to 2147483647 is accepted");
  refused(R"({"mask_refresh_interval": 1.5})",
          "mask_refresh_interval is 1.5; an integer from 1 to 2147483647 is accepted");
  refused(R"({"mask_refresh_interval": 2147483648})",
          "mask_refresh_interval is 2147483648; an integer from 1 to 2147483647 is accepted");
  refused(R"({"dense_layers": [-1]})",
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
    check_refused(R"({"stages": )" + replaced(kTwoStages, text, "") + "}",
                  StatusCode::kMalformedJson,
                  "stages[1]." + std::string(text.substr(3, text.find('"', 3) - 3)) +
                      " is missing; an integer of at least 1 is accepted");
  };
  without(R"(, "stage_chunk_size": 16)");
  without(R"(, "stage_block_stride_q": 4)");
  without(R"(, "stage_k": 4096)");
  check_refused(R"({"stages": [{}]})", StatusCode::kMalformedJson,
                "stages[0].stage_block_size_q is missing; an integer of at least 1 is accepted");
}

TEST_CASE("values that break a rule are refused under the path of their layer") {
  const auto invalid = StatusCode::kInvalidConfig;
  check_refused(R"({"sink_token_size": 100})", invalid,
                "config.sink is 100; it must be a multiple of block_k, the last stage's chunk_size "
                "(8)");
  check_refused(R"({"layers": [{}, {"sink_token_size": 100}]})", invalid,
                "layers[1]: config.sink is 100; it must be a multiple of block_k, the last stage's "
                "chunk_size (8)");
  check_refused(R"({"prefill_layers": [{"second_stage_k": 8200}]})", invalid,
                "prefill_layers[0]: config.stages[2].keep is 8200; it must not be above the keep "
                "of the stage before it (8192)");
  check_refused(R"({"stages": )" + replaced(kStages, "32768", "1000") + "}", invalid,
                "config.stages[0].keep is 1000; it must be a positive multiple of that stage's "
                "chunk_size (256)");
  check_refused(R"({"stages": )" + replaced(kTwoStages, ": 32", ": 64") + "}", invalid,
                "stages[1].stage_block_size_q is 32; one selection serves one query block, so it "
                "must be that of the first stage (64)");
  check_refused(R"({"layers": [{"stages": [], "second_stage_k": 8}]})", invalid,
                "layers[0].second_stage_k is given, but layers[0].stages is empty: no stage keeps "
                "anything");
  check_refused(R"({"mask_refresh_interval": [32, 16]})", invalid,
                "mask_refresh_interval is a list of 2; the document has 3 stages: one integer for "
                "all, or one for each, is accepted");
  check_refused(R"({"mask_refresh_interval": [], "layers": [{}]})", invalid,
                "mask_refresh_interval is a list of 0; layers[0] has 3 stages: one integer for "
                "all, or one for each, is accepted");
}

/// Whatever the text, the parser answers with one of its codes or a configuration that is valid.
/// Returns whether it was accepted.
bool survives(const std::string& json) {
  ModelConfig config;
  const Status status = parse_model_config(json, config);
  bool sound = true;
  if (status.ok()) {
    for (const std::int32_t layer : {0, 1, 2, 50})
      sound &= validate(config.decode(layer)).ok() && validate(config.prefill(layer)).ok();
  } else {
    sound =
        !status.message().empty() && config.decode_layers.empty() &&
        (status.code() == StatusCode::kMalformedJson || status.code() == StatusCode::kUnknownKey ||
         status.code() == StatusCode::kInvalidConfig);
  }
  if (!sound) FAIL_CHECK(json << "\n" << status.message());
  return status.ok();
}

TEST_CASE("every truncation of a file is refused") {
  for (std::size_t size = 0; size < kFull.size(); ++size)
    if (survives(kFull.substr(0, size))) FAIL_CHECK("accepted the first " << size << " bytes");
  CHECK(survives(kFull));
}

TEST_CASE("random bytes and random edits of a file never crash the parser") {
  std::mt19937 random(20240613);
  const auto below = [&](std::size_t n) { return random() % n; };
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(below(200), '\0');
    for (char& byte : bytes) byte = static_cast<char>(below(256));
    survives(bytes);
  }
  const std::string_view alphabet = "{}[]\",:0123456789-.e \nnulltruefals\\\x80";
  for (int i = 0; i < 3000; ++i) {
    std::string json = kFull;
    for (std::size_t edits = 1 + below(4); edits > 0; --edits) {
      const std::size_t at = below(json.size());
      switch (below(3)) {
        case 0:
          json.erase(at, 1 + below(20));
          break;
        case 1:
          json[at] = alphabet[below(alphabet.size())];
          break;
        default:
          json.insert(at, json.substr(below(json.size()), 1 + below(30)));
          break;
      }
    }
    survives(json);
  }
}

/// A random document over the format's own words, so that many are accepted.
class RandomDocument {
 public:
  explicit RandomDocument(std::uint32_t seed) : random_(seed) {}

  std::string document() {
    return object({{"mask_refresh_interval", [&] { return refresh(); }},
                   {"layers", [&] { return list([&] { return layer(); }); }},
                   {"prefill_layers", [&] { return list([&] { return layer(); }); }},
                   {"dense_layers", [&] { return list([&] { return number(); }); }},
                   {"using_extend",
                    [&] {
                      return pick({"false", "false", "true"});
                    }},
                   {"sliding_window_size", [&] { return number(); }}});
  }

 private:
  struct Member {
    std::string key;
    std::function<std::string()> value;
  };

  std::size_t below(std::size_t n) { return random_() % n; }

  std::string pick(const std::vector<std::string>& choices) {
    return choices[below(choices.size())];
  }

  std::string number() {
    return below(20) != 0
               ? std::to_string(1u << below(14))
               : pick({"0", "-1", "null", "1.5", "\"8\"", "true", "[]", "{}", "3", "2147483647",
                       "2147483648", "9223372036854775807", "18446744073709551615", "1e300"});
  }

  std::string refresh() {
    return below(2) != 0 ? number() : list([&] { return number(); });
  }

  std::string layer() {
    return object(
        {{"sink_token_size", [&] { return number(); }},
         {"sliding_window_size", [&] { return number(); }},
         {"second_stage_k",
          [&] {
            return pick({"256", "2048", number()});
          }},
         {"stages", [&] { return below(4) != 0 ? kStages : list([&] { return stage(); }); }}});
  }

  std::string stage() {
    return "{\"stage_block_size_q\": " + pick({"64", "64", number()}) +
           ", \"stage_block_stride_q\": " + pick({"1", "2", number()}) +
           ", \"stage_chunk_size\": " + pick({"8", "32", number()}) +
           ", \"stage_k\": " + pick({"null", "4096", number()}) + "}";
  }

  std::string list(const std::function<std::string()>& element) {
    std::string text = "[";
    for (std::size_t n = below(4); n > 0; --n) text += element() + (n > 1 ? "," : "");
    return text + "]";
  }

  std::string object(const std::vector<Member>& members) {
    std::string text = "{";
    for (const Member& member : members)
      if (below(3) == 0)
        text += (text.size() > 1 ? ", \"" : "\"") + member.key + "\": " + member.value();
    return text + "}";
  }

  std::mt19937 random_;
};

TEST_CASE("random documents are refused or give valid configurations") {
  RandomDocument random(7);
  int accepted = 0;
  for (int i = 0; i < 5000; ++i) accepted += survives(random.document()) ? 1 : 0;
  // Both outcomes have been seen often.
  CHECK(accepted > 500);
  CHECK(accepted < 4500);
}

}  // namespace
}  // namespace hip_attn
