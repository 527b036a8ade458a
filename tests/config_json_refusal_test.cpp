// What parse_model_config refuses, word for word.
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "support/parse_config.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr auto kMalformed = StatusCode::kMalformedJson;
constexpr auto kUnknown = StatusCode::kUnknownKey;
constexpr auto kInvalid = StatusCode::kInvalidConfig;

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
  CHECK(parsed("\xef\xbb\xbf" + document("")).decode_layers.size() == 2);  // a BOM
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
