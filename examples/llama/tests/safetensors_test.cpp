#include "safetensors.hpp"

#include <string>
#include <utility>
#include <vector>

#include "model_folder.hpp"

namespace llama::test {
namespace {

/// A safetensors file with this header and as many bytes of data, 0 1 2 ...
std::string file_with(const std::string& header, std::size_t data_bytes) {
  std::string data;
  for (std::size_t i = 0; i < data_bytes; ++i) data.push_back(static_cast<char>(i));
  return safetensors_file(header, data);
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
  require_rejected(kInconsistent, "dtype is 31; expected a string",
                   file_with(header(R"("dtype":31,"shape":[2],"data_offsets":[0,8])"), 8));
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
  // The tensors tile the data, whatever their types.
  const std::string gap = R"({"a":{"dtype":"NEW","shape":[2],"data_offsets":[0,8]},)"
                          R"("b":{"dtype":"NEW","shape":[2],"data_offsets":[9,12]}})";
  require_rejected(kInconsistent, "tensor b begins at byte 9", file_with(gap, 12));
  require_rejected(ErrorCode::kTruncatedSafetensors, "ends at byte 12", file_with(gap, 11));
}

TEST_CASE("safetensors: types that cannot be read are no reason to refuse a file") {
  const TemporaryFolder folder;
  // Those of the format today, by name and bytes for two elements, and one that it may get.
  const std::pair<const char*, int> kTypes[] = {
      {"BOOL", 2}, {"F4", 1},          {"F6_E2M3", 2}, {"F6_E3M2", 2}, {"U8", 2},
      {"I8", 2},   {"F8_E5M2", 2},     {"F8_E4M3", 2}, {"F8_E8M0", 2}, {"F8_E4M3FNUZ", 2},
      {"I16", 4},  {"F8_E5M2FNUZ", 2}, {"U16", 4},     {"I32", 8},     {"U32", 8},
      {"C64", 16}, {"F64", 16},        {"I64", 16},    {"U64", 16},    {"P3_OF_2031", 5}};
  for (const auto& [dtype, bytes] : kTypes) {
    const SafetensorsFile file(
        folder.write("model.safetensors",
                     safetensors_file({{"a", {"F32", {1}, std::string("\x00\x00\xc0\x3f", 4)}},
                                       {"b", {dtype, {2}, std::string(bytes, 'x')}}})));
    CHECK(file.read("a") == std::vector<float>{1.5f});
    require_error(ErrorCode::kUnsupportedTensorType,
                  std::string("tensor b is ") + dtype + "; expected BF16, F16 or F32",
                  [&] { (void)file.read("b"); });
  }
}

TEST_CASE("safetensors: files that cannot be read are refused") {
  const TemporaryFolder folder;
  for (const auto& path : {folder.path(), folder.path() / "nowhere"}) {
    require_error(ErrorCode::kCannotReadFile, "cannot read " + path.string(),
                  [&] { SafetensorsFile file(path); });
  }
  require_rejected(ErrorCode::kTruncatedSafetensors, "has 0 bytes", "");
}

}  // namespace
}  // namespace llama::test
