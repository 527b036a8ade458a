/// Reads one safetensors file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace llama {

/// One tensor as the header of its file describes it; checked when the file is opened.
struct TensorEntry {
  std::string dtype;                ///< as written; only "BF16", "F16" and "F32" can be read
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

  /// The tensor as the file has it. Errors: kCannotReadFile.
  [[nodiscard]] std::vector<char> bytes(const std::string& name) const;

  /// The tensor as float32, row-major. Errors: kUnsupportedTensorType, kCannotReadFile.
  [[nodiscard]] std::vector<float> read(const std::string& name) const;

 private:
  std::filesystem::path path_;
  std::int64_t data_start_ = 0;
  std::map<std::string, TensorEntry> entries_;
};

}  // namespace llama
