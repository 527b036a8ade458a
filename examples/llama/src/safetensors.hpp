/// Reads safetensors checkpoints: one file, or the shards of a folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace llama {

/// One tensor as the header of its file describes it; checked when the file is opened.
struct TensorEntry {
  std::string dtype;                ///< as written: "BF16", "F16", "F32", or one not readable here
  std::vector<std::int64_t> shape;  ///< row-major
  std::int64_t begin = -1;          ///< bytes [begin, end) after the header
  std::int64_t end = -1;
};

/// One file: 8 bytes of header length, a JSON header, the tensors' bytes without gaps.
class SafetensorsFile {
 public:
  /// Errors: kCannotReadFile, kTruncatedSafetensors, kInconsistentSafetensors.
  explicit SafetensorsFile(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] const std::map<std::string, TensorEntry>& entries() const noexcept {
    return entries_;
  }

  /// The tensor as float32, row-major. Errors: kUnsupportedTensorType, kCannotReadFile.
  [[nodiscard]] std::vector<float> read(const std::string& name) const;

 private:
  std::filesystem::path path_;
  std::int64_t data_start_ = 0;
  std::map<std::string, TensorEntry> entries_;
};

/// The tensors of a model folder.
class Checkpoint {
 public:
  /// Opens the shards that model.safetensors.index.json names, or every *.safetensors.
  explicit Checkpoint(const std::filesystem::path& folder);

  [[nodiscard]] bool contains(const std::string& name) const;

  /// The tensor as float32, row-major. Errors: kMissingTensor, kWrongTensorShape,
  /// kUnsupportedTensorType, kCannotReadFile.
  [[nodiscard]] std::vector<float> read(const std::string& name,
                                        std::span<const std::int64_t> shape) const;

 private:
  std::filesystem::path folder_;
  std::vector<SafetensorsFile> shards_;
  std::map<std::string, std::size_t> shard_of_;
};

}  // namespace llama
