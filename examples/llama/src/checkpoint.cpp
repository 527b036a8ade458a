#include "checkpoint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "json_file.hpp"
#include "warning.hpp"

namespace llama {
namespace {

namespace fs = std::filesystem;

constexpr auto kInconsistent = ErrorCode::kInconsistentSafetensors;
constexpr auto kIndexName = "model.safetensors.index.json";

/// Whether a name of the index leads to something in the folder. A zero byte would end the name for
/// the system.
bool stays_inside(const std::string& name) {
  const fs::path path = fs::path(name).lexically_normal();
  return !name.empty() && name.find('\0') == std::string::npos && path.is_relative() &&
         *path.begin() != "..";
}

std::vector<fs::path> all_safetensors(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(folder, error)) {
    if (file.path().extension() == ".safetensors") paths.push_back(file.path());
  }
  if (paths.empty()) {
    throw Error(ErrorCode::kCannotReadFile,
                fmt::format("{} holds no *.safetensors file", folder.string()));
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// Whether two files hold the same tensor, to the bit.
bool agree(const SafetensorsFile& a, const SafetensorsFile& b, const std::string& name) {
  const TensorEntry& x = a.entries().at(name);
  const TensorEntry& y = b.entries().at(name);
  return x.dtype == y.dtype && x.shape == y.shape && a.bytes(name) == b.bytes(name);
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& folder) : folder_(folder) {
  const fs::path adapter = folder / "adapter_config.json";
  if (fs::exists(adapter)) {
    throw Error(
        ErrorCode::kUnsupportedModel,
        fmt::format("{}: this engine applies no adapter; expected a folder without it, with "
                    "the adapter merged into the weights",
                    adapter.string()));
  }
  const fs::path single = folder / "model.safetensors";
  const fs::path index = folder / kIndexName;
  std::vector<fs::path> paths;
  if (fs::is_regular_file(single)) {
    paths = {single};
    if (fs::is_regular_file(index)) {
      warn(fmt::format("{} is read, and {} beside it is not, as in Transformers", single.string(),
                       kIndexName));
    }
  } else if (fs::is_regular_file(index)) {
    paths = read_index(index);
  } else {
    paths = all_safetensors(folder);
  }
  for (const fs::path& path : paths) {
    const SafetensorsFile& file = files_.emplace_back(path);
    for (const auto& [name, _] : file.entries()) files_with_[name].push_back(files_.size() - 1);
  }
}

std::vector<fs::path> Checkpoint::read_index(const fs::path& path) {
  const Json json = parse_object(read_file(path), path.string(), kInconsistent);
  const Fields map = Fields(json, path.string(), kInconsistent).object("weight_map");
  std::set<std::string> files;  // in the order in which Transformers reads them
  for (const auto& [name, file] : map.json().items()) {
    if (!file.is_string() || !stays_inside(file)) {
      throw Error(kInconsistent,
                  fmt::format("{}: {} is {}; expected the name of a file in the folder",
                              map.where(), name, short_text(file)));
    }
    mapped_[name] = folder_ / file;
    files.insert(file);
  }
  if (files.empty()) {
    throw Error(kInconsistent, fmt::format("{}: weight_map names no file", path.string()));
  }
  std::vector<fs::path> paths;
  for (const std::string& file : files) paths.push_back(folder_ / file);
  return paths;
}

bool Checkpoint::contains(const std::string& name) const { return files_with_.contains(name); }

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, _] : files_with_) names.push_back(name);
  return names;
}

const SafetensorsFile& Checkpoint::file_of(const std::string& name) const {
  const auto found = files_with_.find(name);
  if (found == files_with_.end()) {
    throw Error(ErrorCode::kMissingTensor,
                fmt::format("no shard in {} holds tensor {}", folder_.string(), name));
  }
  const std::vector<std::size_t>& copies = found->second;
  // Transformers reads the files of an index one after the other, and the last copy stays.
  const SafetensorsFile& last = files_[copies.back()];
  const auto differs = [&](std::size_t i) {
    return &files_[i] != &last && !agree(files_[i], last, name);
  };

  const auto mapped = mapped_.find(name);
  const bool is_mapped = mapped != mapped_.end();
  const auto copy = std::find_if(copies.begin(), copies.end(), [&](std::size_t i) {
    return is_mapped && files_[i].path() == mapped->second;
  });
  if (copy != copies.end()) {
    const SafetensorsFile& file = files_[*copy];
    if (differs(*copy)) {
      warn(
          fmt::format("tensor {} is read from {}, as {} says; Transformers would take another, "
                      "which {} holds",
                      name, file.path().string(), kIndexName, last.path().string()));
    }
    return file;
  }

  const auto other = std::find_if(copies.begin(), copies.end(), differs);
  if (other != copies.end()) {
    throw Error(
        kInconsistent,
        fmt::format("tensor {} is in both {} and {}, with other values, and no {} says "
                    "which to read",
                    name, files_[*other].path().string(), last.path().string(), kIndexName));
  }
  if (is_mapped) {
    warn(fmt::format("tensor {} is read from {}; {} says {}, which does not hold it", name,
                     last.path().string(), kIndexName, mapped->second.string()));
  }
  return last;
}

std::vector<float> Checkpoint::read(const std::string& name,
                                    std::span<const std::int64_t> shape) const {
  const SafetensorsFile& file = file_of(name);
  const TensorEntry& entry = file.entries().at(name);
  if (!std::equal(shape.begin(), shape.end(), entry.shape.begin(), entry.shape.end())) {
    throw Error(ErrorCode::kWrongTensorShape,
                fmt::format("{}: tensor {} has shape {}; config.json implies {}",
                            file.path().string(), name, entry.shape, shape));
  }
  return file.read(name);
}

}  // namespace llama
