/// Texts in the authors' JSON format, and what parse_model_config is to make of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "hip_attn/config_json.hpp"

namespace hip_attn::test {

inline const std::string kStages = R"([
  {"stage_block_size_q": 64, "stage_block_stride_q": 4, "stage_chunk_size": 256,
   "stage_k": null, "stage_stride": 1},
  {"stage_block_size_q": 64, "stage_block_stride_q": 4, "stage_chunk_size": 32,
   "stage_k": 32768, "stage_stride": 1},
  {"stage_block_size_q": 64, "stage_block_stride_q": 1, "stage_chunk_size": 8,
   "stage_k": 8192, "stage_stride": 1}])";

/// Two stages: {128, 4096, 2} {16, 1024, 4}, block_q 32.
inline const std::string kTwoStages = R"([
  {"stage_block_size_q": 32, "stage_block_stride_q": 2, "stage_chunk_size": 128},
  {"stage_block_size_q": 32, "stage_block_stride_q": 4, "stage_chunk_size": 16, "stage_k": 4096}])";

/// A document of the authors' with these members.
inline std::string document(const std::string& members) {
  return R"({"using_extend": false)" + (members.empty() ? "" : ", " + members) + "}";
}

/// One whose lists both have this one layer object.
inline std::string layer_document(const std::string& members) {
  return document(R"("prefill_layers": null, "layers": [{)" + members + "}]");
}

inline ModelConfig parsed(const std::string& json, std::vector<std::string>* notes = nullptr) {
  ModelConfig config;
  const Status status = parse_model_config(json, config, notes);
  INFO(json << "\n" << status.message());
  REQUIRE(status.ok());
  return config;
}

inline std::vector<std::string> notes_of(const std::string& json) {
  std::vector<std::string> notes = {"of an earlier file"};
  parsed(json, &notes);
  return notes;
}

/// Refused with the code and, word for word, the message; what the caller handed in is as it was.
inline void check_refused(const std::string& json, StatusCode code, std::string_view message) {
  ModelConfig config;
  config.dense_layers = {77};
  std::vector<std::string> notes = {"of an earlier file"};
  const Status status = parse_model_config(json, config, &notes);
  INFO(json);
  CHECK(static_cast<int>(status.code()) == static_cast<int>(code));
  CHECK(status.message() == message);
  CHECK(config.dense_layers == std::vector<std::int32_t>{77});
  CHECK(config.decode_layers.empty());
  CHECK(notes == std::vector<std::string>{"of an earlier file"});
}

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace hip_attn::test
