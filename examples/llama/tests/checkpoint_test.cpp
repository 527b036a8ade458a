#include "checkpoint.hpp"

#include <array>
#include <cstring>

#include "model_folder.hpp"
#include "warning.hpp"

namespace llama::test {
namespace {

constexpr auto kIndex = "model.safetensors.index.json";
constexpr auto kInconsistent = ErrorCode::kInconsistentSafetensors;

/// Tensors of one float32 each.
std::string file_of(const std::map<std::string, float>& values) {
  StoredTensors tensors;
  for (const auto& [name, value] : values) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    tensors[name] = {"F32", {1}, bytes};
  }
  return safetensors_file(tensors);
}

std::string index_of(const Json& weight_map) { return Json{{"weight_map", weight_map}}.dump(); }

float read(const Checkpoint& checkpoint, const std::string& name) {
  return checkpoint.read(name, std::array<std::int64_t, 1>{1}).front();
}

void require_warning(const CollectedWarnings& warnings, const std::string& words) {
  REQUIRE(warnings.messages().size() == 1);
  CAPTURE(warnings.messages());
  REQUIRE(warnings.messages()[0].find(words) != std::string::npos);
}

TEST_CASE("checkpoint: missing folders, missing and misshapen tensors are refused") {
  const TemporaryFolder folder;
  require_error(ErrorCode::kCannotReadFile, "no *.safetensors",
                [&] { Checkpoint checkpoint(folder.path()); });
  require_error(ErrorCode::kCannotReadFile, "no *.safetensors",
                [&] { Checkpoint checkpoint(folder.path() / "nowhere"); });
  folder.write("one.safetensors", safetensors_file({{"a", {"F32", {2}, std::string(8, 'x')}},
                                                    {"n", {"I64", {1}, std::string(8, 'x')}}}));
  const Checkpoint checkpoint(folder.path());
  require_error(ErrorCode::kMissingTensor, "tensor b", [&] { (void)read(checkpoint, "b"); });
  require_error(ErrorCode::kWrongTensorShape, "has shape [2]; config.json implies [1, 2]", [&] {
    (void)checkpoint.read("a", std::array<std::int64_t, 2>{1, 2});
  });
  require_error(ErrorCode::kUnsupportedTensorType, "is I64; expected BF16, F16 or F32",
                [&] { (void)read(checkpoint, "n"); });
  folder.write("two.safetensors", "");
  require_error(ErrorCode::kTruncatedSafetensors, "two.safetensors has 0 bytes",
                [&] { Checkpoint checkpoint(folder.path()); });
}

TEST_CASE("checkpoint: without an index all files are read, and equal tensors may be in several") {
  const TemporaryFolder folder;
  folder.write("one.safetensors", file_of({{"a", 1.f}, {"b", 2.f}, {"c", 5.f}}));
  folder.write("two.safetensors", file_of({{"b", 2.f}, {"c", 6.f}, {"d", 4.f}}));
  const Checkpoint checkpoint(folder.path());
  CHECK(checkpoint.names() == std::vector<std::string>{"a", "b", "c", "d"});
  CHECK(read(checkpoint, "a") == 1.f);
  CHECK(read(checkpoint, "b") == 2.f);
  CHECK(read(checkpoint, "d") == 4.f);
  require_error(kInconsistent, "tensor c is in both", [&] { (void)read(checkpoint, "c"); });

  // Equal bytes of another type or shape are another tensor.
  folder.write("two.safetensors", safetensors_file({{"a", {"BF16", {2}, {"\0\0\x80\x3f", 4}}}}));
  require_error(kInconsistent, "tensor a is in both",
                [&] { (void)read(Checkpoint(folder.path()), "a"); });
}

TEST_CASE("checkpoint: model.safetensors comes before an index, which may be stale") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", file_of({{"a", 1.f}}));
  folder.write("old-1-of-2.safetensors", file_of({{"a", 2.f}}));
  {
    const CollectedWarnings warnings;
    CHECK(read(Checkpoint(folder.path()), "a") == 1.f);
    CHECK(warnings.messages().empty());
  }
  for (const std::string& stale :
       {index_of({{"a", "old-1-of-2.safetensors"}, {"b", "gone.safetensors"}}),
        std::string("not an index")}) {
    folder.write(kIndex, stale);
    const CollectedWarnings warnings;
    CHECK(read(Checkpoint(folder.path()), "a") == 1.f);
    require_warning(warnings, "model.safetensors.index.json beside it is not");
  }
}

TEST_CASE("checkpoint: the index says where a tensor is read") {
  const TemporaryFolder folder;
  folder.write("one.safetensors", file_of({{"a", 1.f}, {"b", 2.f}}));
  folder.write("overlay.safetensors", file_of({{"a", 3.f}}));
  folder.write("unnamed.safetensors", file_of({{"a", 4.f}, {"c", 5.f}}));
  folder.write(kIndex, index_of({{"a", "overlay.safetensors"}, {"b", "one.safetensors"}}));
  {
    const CollectedWarnings warnings;
    const Checkpoint checkpoint(folder.path());
    CHECK(read(checkpoint, "a") == 3.f);
    CHECK(read(checkpoint, "b") == 2.f);
    CHECK_FALSE(checkpoint.contains("c"));
    CHECK(warnings.messages().empty());
  }
  // Transformers reads file after file, and would take the copy of the last.
  folder.write(kIndex, index_of({{"a", "one.safetensors"}, {"x", "overlay.safetensors"}}));
  {
    const CollectedWarnings warnings;
    const Checkpoint checkpoint(folder.path());
    CHECK(read(checkpoint, "a") == 1.f);
    require_warning(warnings, "Transformers would take another");
  }
  folder.write("overlay.safetensors", file_of({{"a", 1.f}}));
  {
    const CollectedWarnings warnings;
    CHECK(read(Checkpoint(folder.path()), "a") == 1.f);
    CHECK(warnings.messages().empty());
  }
}

TEST_CASE("checkpoint: tensors that the index misplaces or leaves out are read all the same") {
  const TemporaryFolder folder;
  folder.write("one.safetensors", file_of({{"a", 1.f}}));
  folder.write("two.safetensors", file_of({{"b", 2.f}, {"c", 3.f}}));
  folder.write(
      kIndex,
      index_of({{"a", "two.safetensors"}, {"b", "two.safetensors"}, {"x", "one.safetensors"}}));
  const CollectedWarnings warnings;
  const Checkpoint checkpoint(folder.path());
  CHECK(read(checkpoint, "b") == 2.f);
  CHECK(read(checkpoint, "c") == 3.f);
  CHECK(warnings.messages().empty());
  CHECK(read(checkpoint, "a") == 1.f);
  require_warning(warnings, "two.safetensors, which does not hold it");
  require_error(ErrorCode::kMissingTensor, "tensor x", [&] { (void)read(checkpoint, "x"); });

  folder.write("one.safetensors", file_of({{"a", 1.f}, {"c", 4.f}}));
  require_error(kInconsistent, "tensor c is in both",
                [&] { (void)read(Checkpoint(folder.path()), "c"); });
}

TEST_CASE("checkpoint: an index that leads nowhere is refused") {
  const TemporaryFolder folder;
  folder.write("one.safetensors", file_of({{"a", 1.f}}));
  const auto refused = [&](ErrorCode code, const std::string& index, const std::string& words) {
    folder.write(kIndex, index);
    require_error(code, words, [&] { Checkpoint checkpoint(folder.path()); });
  };
  // Also where only tensors of no interest would be in the file.
  refused(ErrorCode::kCannotReadFile,
          index_of({{"a", "one.safetensors"}, {"x", "gone.safetensors"}}), "gone.safetensors");
  refused(kInconsistent, index_of({{"a", 1}}), "a is 1; expected the name of a file in the folder");
  for (const std::string& outside :
       {"../" + folder.path().filename().string() + "/one.safetensors",
        "sub/../../" + folder.path().filename().string() + "/one.safetensors",
        (folder.path() / "one.safetensors").string(), std::string("..")}) {
    refused(kInconsistent, index_of({{"a", outside}}), "expected the name of a file in the folder");
  }
  // To the system a zero byte ends the name, so that this would be one.safetensors.
  refused(kInconsistent, index_of({{"a", std::string("one.safetensors\0x", 17)}}),
          "a is \"one.safetensors\\u0000x\"; expected the name of a file in the folder");
  refused(kInconsistent, index_of({{"a", ""}}), "a is \"\"; expected the name of a file");
  refused(kInconsistent, index_of(Json::object()), "weight_map names no file");
  refused(kInconsistent, "{}", "weight_map is missing; expected an object");
  refused(kInconsistent, "", "not valid JSON");
}

TEST_CASE("checkpoint: an adapter beside the weights is refused") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", file_of({{"a", 1.f}}));
  folder.write("adapter_config.json", "{}");
  require_error(ErrorCode::kUnsupportedModel, "adapter_config.json: this engine applies no adapter",
                [&] { Checkpoint checkpoint(folder.path()); });
}

TEST_CASE("checkpoint: an index may lead to folders below") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "sub");
  folder.write("sub/one.safetensors", file_of({{"a", 1.f}}));
  folder.write(kIndex, index_of({{"a", "sub/one.safetensors"}}));
  CHECK(read(Checkpoint(folder.path()), "a") == 1.f);
}

TEST_CASE("checkpoint: the bundled model's index is that of its files") {
  std::map<std::string, std::string> files;
  for (const auto& file : std::filesystem::directory_iterator(kModelFolder)) {
    if (file.path().extension() != ".safetensors") continue;
    const SafetensorsFile shard(file.path());
    for (const auto& [name, _] : shard.entries()) {
      CHECK(files.emplace(name, file.path().filename().string()).second);
    }
  }
  const Json index = Json::parse(read_file(kModelFolder / kIndex));
  CHECK(index["weight_map"] == Json(files));
  std::size_t total_size = 0;
  for (const auto& [_, tensor] : bundled_tensors()) total_size += tensor.bytes.size();
  CHECK(index["metadata"]["total_size"] == total_size);
}

}  // namespace
}  // namespace llama::test
