/// The tensors of a model folder, whichever files hold them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "safetensors.hpp"

namespace llama {

/// Reads model.safetensors if the folder has it, as Transformers does; else the files that
/// model.safetensors.index.json names; else every *.safetensors.
///
/// The index says which of its files a tensor is read from. Where it says nothing of a tensor, or
/// there is no index, files that hold the same tensor have to agree.
class Checkpoint {
 public:
  /// Errors: kCannotReadFile, kTruncatedSafetensors, kInconsistentSafetensors, kUnsupportedModel
  /// for an adapter beside the weights.
  explicit Checkpoint(const std::filesystem::path& folder);

  [[nodiscard]] bool contains(const std::string& name) const;
  /// Of all tensors, in order.
  [[nodiscard]] std::vector<std::string> names() const;

  /// The tensor as float32, row-major. Errors: kMissingTensor, kWrongTensorShape,
  /// kUnsupportedTensorType, kInconsistentSafetensors, kCannotReadFile.
  [[nodiscard]] std::vector<float> read(const std::string& name,
                                        std::span<const std::int64_t> shape) const;

 private:
  /// Fills in mapped_, and returns the files that the index names.
  std::vector<std::filesystem::path> read_index(const std::filesystem::path& path);
  [[nodiscard]] const SafetensorsFile& file_of(const std::string& name) const;

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;  // in the order of their names
  std::map<std::string, std::vector<std::size_t>> files_with_;
  std::map<std::string, std::filesystem::path> mapped_;  // what the index says
};

}  // namespace llama
