// Files that others wrote: what an absent key means, which keys change nothing, and what a caller
// is told. docs/guide/json-config.md promises it.
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/parse_config.hpp"

namespace hip_attn {
namespace {

using namespace test;

HipConfig with_intervals(HipConfig config, std::vector<std::int32_t> intervals) {
  config.refresh_interval = std::move(intervals);
  return config;
}

const std::string kAbsentLayers =
    "layers is absent: second_stage_k is 4096 in the layers of dense_layers and 2048 in all others";
const std::string kAbsentPrefillLayers =
    "prefill_layers is absent: second_stage_k is 4096 in the layers of dense_layers and 2048 in "
    "all others; null would mean as in layers";
const std::string kAbsentDenseLayers = "dense_layers is absent: it is 0, 1, 2, 3, 31";
const std::string kAbsentInterval = "mask_refresh_interval is absent: it is 32, 16, 8";
const std::string kNoExtension = " has no effect: using_extend is false";

TEST_CASE("a file that says nothing of context extension asks for it, and is refused") {
  for (const char* json : {"{}", R"({"mask_refresh_interval": [96, 24, 8]})",
                           R"({"dense_layers": [0, 1]})", R"({"layers": [{}]})"})
    check_refused(json, StatusCode::kUnknownKey,
                  "using_extend is absent, which means true to the authors' package; context "
                  "extension is not supported: write \"using_extend\": false");
  // With a key of a layer object it is no file of the authors'.
  CHECK(parsed(R"({"sink_token_size": 256})").decode(31) == presets::infinite_hip());
  CHECK(notes_of(R"({"sink_token_size": 256})").empty());
}

TEST_CASE("absent keys mean what they mean to the authors' class, and the caller is told") {
  const ModelConfig config = parsed(document(""));
  for (const std::int32_t layer : {0, 1, 2, 3, 31}) {
    CHECK(config.decode(layer) == presets::infinite_hip_5k());
    CHECK(config.prefill(layer) == presets::infinite_hip_5k());
  }
  for (const std::int32_t layer : {4, 30, 32}) {
    CHECK(config.decode(layer) == presets::infinite_hip());
    CHECK(config.prefill(layer) == presets::infinite_hip());
  }
  CHECK(notes_of(document("")) == std::vector<std::string>{kAbsentInterval, kAbsentLayers,
                                                           kAbsentPrefillLayers,
                                                           kAbsentDenseLayers});
}

TEST_CASE("one list alone leaves the other its default") {
  const std::string intervals = R"("mask_refresh_interval": 3, )";
  const ModelConfig decode =
      parsed(document(intervals + R"("layers": [{"sliding_window_size": 7}])"));
  CHECK(decode.decode(0).window == 7);
  CHECK(decode.prefill(0) == with_intervals(presets::infinite_hip_5k(), {3, 3, 3}));
  CHECK(decode.prefill(4) == with_intervals(presets::infinite_hip(), {3, 3, 3}));

  const ModelConfig prefill = parsed(document(
      intervals + R"("dense_layers": [4], "prefill_layers": [{"sliding_window_size": 7}, {}])"));
  CHECK(prefill.prefill(4).window == 7);
  CHECK(prefill.decode(4) == with_intervals(presets::infinite_hip_5k(), {3, 3, 3}));
  CHECK(prefill.decode(0) == with_intervals(presets::infinite_hip(), {3, 3, 3}));
}

TEST_CASE(
    "two entries without dense_layers are those of the authors' dense layers and all others") {
  const std::string json = document(R"("mask_refresh_interval": 1, "prefill_layers": null,
    "layers": [{"sliding_window_size": 1}, {"sliding_window_size": 2}])");
  CHECK(parsed(json).decode(31).window == 1);
  CHECK(parsed(json).decode(30).window == 2);
  CHECK(notes_of(json) == std::vector<std::string>{kAbsentDenseLayers});
}

TEST_CASE("a file that says all has no notes") {
  CHECK(notes_of(document(R"("mask_refresh_interval": [32, 16, 8], "dense_layers": [0],
    "force_dense": false, "decode_always_dense": false, "prefill_always_dense": false,
    "__using_dense_prefill": false, "prefill_layers": [{"second_stage_k": 0}],
    "layers": [{}, {"stages": )" +
                          kStages + "}]"))
            .empty());
}

TEST_CASE("each reason for a note is told once") {
  const std::string whole = R"("mask_refresh_interval": [9, 9, 9], "prefill_layers": null, )";
  const auto note = [&](const std::string& members) {
    const std::vector<std::string> notes = notes_of(document(whole + members));
    return notes.size() == 1 ? notes.front() : std::to_string(notes.size()) + " notes";
  };
  CHECK(note(R"("layers": [{"second_stage_k": 0, "stages": [{}]}])") ==
        "stages has no effect where second_stage_k is 0: nothing is searched");
  CHECK(note(R"("layers": [{"sliding_window_size": 777}])") ==
        "sliding_window_size 777 is read as 777 tokens, where the authors' package attends to the "
        "whole context");
  CHECK(note(R"("layers": [{"stages": )" + kTwoStages + R"(}, {"stages": )" + kTwoStages +
             R"(}], "dense_layers": [0])") ==
        "mask_refresh_interval has 3 numbers, and a layer 2 stages: a number without a stage has "
        "no effect, and a stage without a number runs whenever the stage before it does");
  CHECK(note(R"("dense_layers": [0], "layers": [{}, {}, {}])") ==
        "dense_layers has no effect on layers, which has one entry for each layer");
  for (const std::string key : {"force_dense", "decode_always_dense", "prefill_always_dense"})
    CHECK(note(R"("layers": [{}], ")" + key + R"(": true)") ==
          key + " is honoured; the authors' package reads it without acting on it");
  CHECK(note(R"("layers": [{}], "prefill_dense_threshold": 100)") ==
        "prefill_dense_threshold is honoured, in layers that search, by callers that hand "
        "ModelConfig::prefill_dense_until to their plans; the authors' package reads it without "
        "acting on it");
  CHECK(notes_of(document(whole + R"("layers": [{}], "prefill_dense_threshold": -1)")).empty());
  // Prefill has no refresh: its stages may be as many as they like.
  CHECK(notes_of(document(R"("mask_refresh_interval": [9, 9, 9], "dense_layers": [],
    "layers": [{}], "prefill_layers": [{"stages": )" +
                          kTwoStages + "}]"))
            .empty());
}

TEST_CASE("a file with window-only layers, long windows in decode and short ones in prefill") {
  const ModelConfig config = parsed(R"({"using_extend": false, "dense_layers": [0],
    "mask_refresh_interval": [36, 18, 6],
    "layers": [{"sliding_window_size": 65536, "sink_token_size": 0, "second_stage_k": 0},
               {"sliding_window_size": 65536, "sink_token_size": 0, "second_stage_k": 0}],
    "prefill_layers": [{"sliding_window_size": 4096, "sink_token_size": 512, "second_stage_k": 0},
                       {"sliding_window_size": 4000, "sink_token_size": 511,
                        "second_stage_k": 0}]})");
  CHECK(config.dense_layers == std::vector<std::int32_t>{0});
  CHECK(config.decode(0) == presets::sliding_window(65536, 0));
  CHECK(config.decode(1) == presets::sliding_window(65536, 0));
  CHECK(config.prefill(0) == presets::sliding_window(4096, 512));
  CHECK(config.prefill(1) == presets::sliding_window(4000, 511));
}

TEST_CASE("a file that decodes densely and says nothing of layers") {
  const std::string json =
      R"({"using_extend": false, "dense_layers": [2], "decode_always_dense": true})";
  const ModelConfig config = parsed(json);
  for (const std::int32_t layer : {0, 2, 9}) CHECK(config.decode(layer) == presets::dense());
  CHECK(config.prefill(2) == presets::infinite_hip_5k());
  CHECK(config.prefill(0) == presets::infinite_hip());
  CHECK(notes_of(json) ==
        std::vector<std::string>{
            "decode_always_dense is honoured; the authors' package reads it without acting on it",
            kAbsentPrefillLayers});
  CHECK(notes_of(document(R"("force_dense": true)")).size() == 1);
}

TEST_CASE("a file with dense layers, a threshold, switches that are off and sizes of caches") {
  const std::string json = R"({"using_extend": false, "dense_layers": [0, 1, 4],
    "mask_refresh_interval": [96, 24, 8], "prefill_dense_threshold": 16384,
    "decode_always_dense": false, "prefill_always_dense": false, "force_dense": false,
    "metadata_cache_max_batch_size": 16, "block_sparse_block_size_q": 32})";
  const ModelConfig config = parsed(json);
  for (const std::int32_t layer : {0, 1, 4})
    CHECK(config.decode(layer) == with_intervals(presets::infinite_hip_5k(), {96, 24, 8}));
  for (const std::int32_t layer : {2, 3, 31}) {
    CHECK(config.decode(layer) == presets::infinite_hip_fast());
    CHECK(config.prefill(layer) == presets::infinite_hip_fast());
  }
  CHECK(config.prefill_dense_until == 16385);
  CHECK(notes_of(json).size() == 5);
}

TEST_CASE("a file with the keys of an extension that is off") {
  const auto layer = [](const char* sizes, const char* scan_backend) {
    return std::string("{") + sizes + R"(, "sa_extend_backend": "streaming",
      "scan_extend_backend": )" +
           scan_backend + R"(, "stages": [
      {"stage_block_size_q": 64, "stage_block_stride_q": 2, "stage_chunk_size": 64,
       "stage_k": null, "stage_stride": 1},
      {"stage_block_size_q": 64, "stage_block_stride_q": 2, "stage_chunk_size": 16,
       "stage_k": 16384, "stage_stride": 1, "stage_extend_backend": "relative"},
      {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 4,
       "stage_k": 4096, "stage_stride": 1}]})";
  };
  const std::string json =
      R"({"using_extend": false, "self_extend_scale": 10, "dense_layers": [0, 3],
    "mask_refresh_interval": [64, 16, 8], "layers": [)" +
      layer(R"("sliding_window_size": 2048, "second_stage_k": 4096, "sink_token_size": 128)",
            R"("streaming")") +
      ", " +
      layer(R"("sliding_window_size": 1024, "second_stage_k": 1024, "sink_token_size": 256)",
            "null") +
      "]}";
  HipConfig dense;
  dense.sink = 128;
  dense.window = 2048;
  dense.block_q = 64;
  dense.stages = {{64, 16384, 2}, {16, 4096, 2}, {4, 4096, 1}};
  dense.refresh_interval = {64, 16, 8};
  HipConfig sparse = dense;
  sparse.sink = 256;
  sparse.window = 1024;
  sparse.stages.back().keep = 1024;
  const ModelConfig config = parsed(json);
  CHECK(config.decode(3) == dense);
  CHECK(config.decode(1) == sparse);
  // The lists have their own defaults.
  CHECK(config.prefill(3) == with_intervals(presets::infinite_hip_5k(), {64, 16, 8}));
  CHECK(config.prefill(1) == with_intervals(presets::infinite_hip(), {64, 16, 8}));
  CHECK(notes_of(json) == std::vector<std::string>{"self_extend_scale" + kNoExtension,
                                                   "sa_extend_backend" + kNoExtension,
                                                   "scan_extend_backend" + kNoExtension,
                                                   "stage_extend_backend" + kNoExtension,
                                                   kAbsentPrefillLayers});
}

TEST_CASE("a file whose decode searches larger query blocks first") {
  const std::string json = R"({"using_extend": false, "mask_refresh_interval": [96, 24, 12],
    "layers": [{"sliding_window_size": 256, "second_stage_k": 512, "sink_token_size": 64,
    "stages": [{"stage_block_size_q": 128, "stage_block_stride_q": 4, "stage_chunk_size": 256,
                "stage_k": null, "stage_stride": 1, "using_landmark": false},
               {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 8,
                "stage_k": 32768, "stage_stride": 1},
               {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 2,
                "stage_k": 8192, "stage_stride": 1}]}]})";
  HipConfig expected;
  expected.sink = 64;
  expected.window = 256;
  expected.block_q = 128;
  expected.stages = {{256, 32768, 4}, {8, 8192, 1}, {2, 512, 1}};
  expected.refresh_interval = {96, 24, 12};
  const ModelConfig config = parsed(json);
  for (const std::int32_t layer : {0, 9}) CHECK(config.decode(layer) == expected);
  CHECK(config.prefill(9) == with_intervals(presets::infinite_hip(), {96, 24, 12}));
  CHECK(notes_of(json) ==
        std::vector<std::string>{
            "using_landmark has no effect: it is not true",
            "stage_block_size_q has no effect in layers, where it differs between stages: the rows "
            "of a decode step are one query block",
            kAbsentPrefillLayers, kAbsentDenseLayers});
}

// What docs/guide/json-config.md says, run.

std::string page() {
  std::ifstream file(HIP_ATTN_SOURCE_DIR "/docs/guide/json-config.md", std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The rows of the table under `header`, cell by cell.
std::vector<std::vector<std::string>> table(const std::string& header) {
  std::istringstream lines(page());
  std::string line;
  while (std::getline(lines, line) && !line.starts_with(header)) {
  }
  INFO(header);
  REQUIRE(line.starts_with(header));
  std::getline(lines, line);  // |---|
  std::vector<std::vector<std::string>> rows;
  while (std::getline(lines, line) && line.starts_with('|')) {
    std::istringstream cells(line.substr(1));
    std::vector<std::string>& row = rows.emplace_back();
    for (std::string cell; std::getline(cells, cell, '|');) row.push_back(cell);
  }
  REQUIRE_FALSE(rows.empty());
  return rows;
}

/// What stands between backticks.
std::vector<std::string> code_in(const std::string& cell) {
  std::vector<std::string> code;
  std::istringstream parts(cell);
  std::string text;
  for (bool inside = false; std::getline(parts, text, '`'); inside = !inside)
    if (inside) code.push_back(text);
  return code;
}

TEST_CASE("docs: the keys without effect are accepted and refused as the page says") {
  const auto with = [](const std::string& path, const std::string& value) {
    const std::string key = path.substr(path.rfind('.') + 1);
    const std::string member = '"' + key + "\": " + value;
    if (path == key) return document(member);
    if (path == "layers[0]." + key) return layer_document(member);
    REQUIRE(path == "layers[0].stages[0]." + key);
    return layer_document(R"("stages": )" + replaced(kStages, "{", "{" + member + ", "));
  };
  std::size_t refusals = 0;
  for (const auto& row : table("| key | accepted |")) {
    REQUIRE(row.size() == 4);
    const std::string path = code_in(row[0]).at(0);
    const std::string key = path.substr(path.rfind('.') + 1);
    INFO(path);
    CHECK_FALSE(code_in(row[1]).empty());
    for (const std::string& value : code_in(row[1])) {
      const std::vector<std::string> notes = notes_of(with(path, value));
      CHECK(std::ranges::any_of(notes, [&](const std::string& note) {
        return note.starts_with(key + " has no effect: ");
      }));
      CHECK(parsed(with(path, value)).decode(4) == presets::infinite_hip());
    }
    for (const std::string& value : code_in(row[2])) {
      ModelConfig config;
      const Status status = parse_model_config(with(path, value), config);
      CHECK(status.code() == StatusCode::kUnknownKey);
      CHECK(status.message().starts_with(path + " is " + value + "; "));
      ++refusals;
    }
    // A value of a wrong type is no way around either.
    ModelConfig config;
    CHECK(parse_model_config(with(path, "{}"), config).code() == StatusCode::kMalformedJson);
  }
  CHECK(refusals == 11);
}

TEST_CASE("docs: the page has every key that is read, and no other") {
  const auto on_page = [](const std::string& header) {
    std::set<std::string> keys;
    for (const auto& row : table(header)) keys.insert(code_in(row.at(0)).at(0));
    return keys;
  };
  // A refusal lists the keys that are read.
  const auto read = [](const std::string& json) {
    ModelConfig config;
    const std::string message = parse_model_config(json, config).message();
    const std::string listed = "the keys read here are ";
    REQUIRE(message.find(listed) != std::string::npos);
    std::istringstream names(message.substr(message.find(listed) + listed.size()));
    std::set<std::string> keys;
    for (std::string name; names >> name;) keys.insert(name.substr(0, name.find(',')));
    return keys;
  };
  const std::set<std::string> layer_keys = on_page("| layer object |");
  CHECK(read(layer_document(R"("?": 1)")) == layer_keys);
  CHECK(read(layer_document(R"("stages": [{"?": 1}])")) == on_page("| stage object |"));
  std::set<std::string> document_keys = on_page("| document |");
  document_keys.insert(layer_keys.begin(), layer_keys.end());
  CHECK(read(R"({"?": 1})") == document_keys);
}

TEST_CASE("docs: the example is what the page says of it") {
  const std::string text = page();
  const std::string fence = "```json\n";
  const std::size_t begin = text.find(fence) + fence.size();
  const std::string example = text.substr(begin, text.find("```", begin) - begin);
  const ModelConfig config = parsed(example);
  CHECK(config.dense_layers == std::vector<std::int32_t>{0, 1, 2});
  const ModelConfig absent = parsed(document(""));
  CHECK(config.decode_layers == absent.decode_layers);
  CHECK(config.prefill_layers == absent.prefill_layers);
  CHECK(notes_of(example).empty());
}

TEST_CASE("docs: notes go to whoever asks for them") {
  std::vector<std::string> logged;
  const auto log = [&](const std::string& note) { logged.push_back(note); };
  const std::string text = R"({"sink_token_size": 256, "self_extend_scale": 12})";
  ModelConfig model;
  // [model-config-notes]
  std::vector<std::string> notes;
  const Status status = parse_model_config(text, model, &notes);
  for (const std::string& note : notes) log(note);
  // [model-config-notes]
  CHECK(status.ok());
  CHECK(logged == std::vector<std::string>{"self_extend_scale" + kNoExtension});
}

}  // namespace
}  // namespace hip_attn
