#include "safetensors.hpp"

#include <array>
#include <bit>
#include <cstdint>

#include "support.hpp"
#include "weights.hpp"

namespace llama::test {
namespace {

/// A safetensors file with this header and as many bytes of data, 0 1 2 ...
std::string file_with(const std::string& header, std::size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  file += header;
  for (std::size_t i = 0; i < data_bytes; ++i) file.push_back(static_cast<char>(i));
  return file;
}

void require_rejected(ErrorCode code, const std::string& words, const std::string& content) {
  const TemporaryFolder folder;
  const auto path = folder.write("model.safetensors", content);
  require_error(code, words, [&] { SafetensorsFile file(path); });
}

TEST_CASE("safetensors: every element type is read as float32") {
  const TemporaryFolder folder;
  // 1.5 as bf16, f16 and f32.
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},)"
                             R"("b":{"dtype":"F16","shape":[1,1],"data_offsets":[2,4]},)"
                             R"("c":{"dtype":"F32","shape":[],"data_offsets":[4,8]}})";
  std::string content = file_with(header, 0);
  content += std::string("\xc0\x3f\x00\x3e\x00\x00\xc0\x3f", 8);
  const SafetensorsFile file(folder.write("model.safetensors", content));
  for (const char* name : {"a", "b", "c"}) {
    REQUIRE(file.read(name) == std::vector<float>{1.5f});
  }
}

TEST_CASE("safetensors: truncated files are refused") {
  constexpr auto kTruncated = ErrorCode::kTruncatedSafetensors;
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  require_rejected(kTruncated, "has 3 bytes", "abc");
  require_rejected(kTruncated, "its header ends at byte", file_with(header, 8).substr(0, 20));
  require_rejected(kTruncated, "the file holds 7", file_with(header, 7));
}

TEST_CASE("safetensors: headers that contradict themselves or the file are refused") {
  constexpr auto kInconsistent = ErrorCode::kInconsistentSafetensors;
  const auto header = [](const std::string& a) { return R"({"a":{)" + a + "}}"; };
  require_rejected(kInconsistent, "the format allows", std::string(16, '\xff'));
  require_rejected(kInconsistent, "not valid JSON", file_with("{\"a\":", 8));
  require_rejected(kInconsistent, "expected an object", file_with("[]", 0));
  require_rejected(kInconsistent, "expected an object", file_with(R"({"a":1})", 0));
  require_rejected(kInconsistent, "dtype is missing",
                   file_with(header(R"("shape":[2],"data_offsets":[0,8])"), 8));
  require_rejected(kInconsistent, "dtype is \"F31\"",
                   file_with(header(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"), 8));
  require_rejected(kInconsistent, "shape is [-2]",
                   file_with(header(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8));
  require_rejected(kInconsistent, "data_offsets is [8,0]",
                   file_with(header(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8));
  require_rejected(
      kInconsistent, "data_offsets is [0,18446744073709551615]",
      file_with(header(R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615])"), 8));
  require_rejected(kInconsistent, "spans 8 bytes, but F32 of shape [3] takes 12",
                   file_with(header(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8));
  require_rejected(
      kInconsistent, "takes more than 2^63",
      file_with(header(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])"),
                8));
  require_rejected(kInconsistent, "bytes of data follow the last tensor",
                   file_with(header(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 9));
  const std::string overlapping = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                  R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  require_rejected(kInconsistent, "tensor b begins at byte 4", file_with(overlapping, 12));
}

TEST_CASE("checkpoint: missing folders, missing and misshapen tensors are refused") {
  const TemporaryFolder folder;
  require_error(ErrorCode::kCannotReadFile, "no *.safetensors",
                [&] { Checkpoint checkpoint(folder.path()); });
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                             R"("n":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}})";
  folder.write("one.safetensors", file_with(header, 16));
  const Checkpoint checkpoint(folder.path());
  require_error(ErrorCode::kMissingTensor, "tensor b",
                [&] { (void)checkpoint.read("b", std::array<std::int64_t, 1>{2}); });
  require_error(ErrorCode::kWrongTensorShape, "has shape [2]; config.json implies [1, 2]", [&] {
    (void)checkpoint.read("a", std::array<std::int64_t, 2>{1, 2});
  });
  require_error(ErrorCode::kUnsupportedTensorType, "is I64; expected BF16, F16 or F32",
                [&] { (void)checkpoint.read("n", std::array<std::int64_t, 1>{1}); });

  folder.write("two.safetensors", file_with(header, 16));
  require_error(ErrorCode::kInconsistentSafetensors, "is in both",
                [&] { Checkpoint twice(folder.path()); });
}

TEST_CASE("checkpoint: an index names the shards") {
  const TemporaryFolder folder;
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  folder.write("one.safetensors", file_with(header, 4));
  folder.write("other.safetensors", file_with(header, 4));  // not in the index, so no duplicate
  folder.write("model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors"}})");
  REQUIRE(Checkpoint(folder.path()).contains("a"));

  folder.write("model.safetensors.index.json", R"({"weight_map":{"a":"gone.safetensors"}})");
  require_error(ErrorCode::kCannotReadFile, "gone.safetensors",
                [&] { Checkpoint checkpoint(folder.path()); });
  folder.write("model.safetensors.index.json", R"({"weight_map":{"a":1}})");
  require_error(ErrorCode::kInconsistentSafetensors, "a is 1; expected a string",
                [&] { Checkpoint checkpoint(folder.path()); });
}

TEST_CASE("weights: a model that lacks a shard is refused") {
  const TemporaryFolder folder;
  std::filesystem::copy(kModelFolder / "model-1-of-2.safetensors", folder.path());
  require_error(ErrorCode::kMissingTensor, "no shard",
                [&] { (void)load_weights(folder.path(), bundled_model().config(), cpu()); });
}

}  // namespace
}  // namespace llama::test
