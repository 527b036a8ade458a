/// Copies of the bundled model's folder that tests change, and safetensors files that they make.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "json_file.hpp"
#include "support.hpp"

namespace llama::test {

/// A tensor as a safetensors file holds it.
struct StoredTensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};
using StoredTensors = std::map<std::string, StoredTensor>;

/// A safetensors file of a header and the bytes that follow it.
std::string safetensors_file(const std::string& header, const std::string& data);
std::string safetensors_file(const StoredTensors& tensors);

/// Those of the bundled model.
const StoredTensors& bundled_tensors();

/// The bundled tensor with its bf16 values multiplied by a power of two.
StoredTensor scaled_tensor(const std::string& name, int exponent);

/// The bundled config.json with the fields of `changes`; without those that are "absent" there.
Json changed_config(const Json& changes);

/// The bundled model's files by links, which `write` replaces.
class ModelFolder {
 public:
  explicit ModelFolder(const Json& config_changes = {});

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return folder_.path(); }
  void write(const std::string& name, const std::string& content) const;
  void remove(const std::string& name) const;
  /// model.safetensors.index.json, for a start that of the bundled model.
  [[nodiscard]] Json index() const;
  void write_index(const Json& index) const;
  /// Adds a file of tensors that the index leads to.
  void overlay(const std::string& file, const StoredTensors& tensors) const;

 private:
  TemporaryFolder folder_;
};

/// The mean negative log-likelihood of the haystack's first 512 tokens, with dense attention.
double nll_of(const std::filesystem::path& model_folder);

/// That of the bundled model.
double bundled_nll();

}  // namespace llama::test
