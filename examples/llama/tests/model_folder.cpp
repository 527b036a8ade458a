#include "model_folder.hpp"

#include <cmath>
#include <cstring>

#include "hip_attn/types.hpp"
#include "json_file.hpp"
#include "safetensors.hpp"
#include "text_nll.hpp"

namespace llama::test {
namespace {

constexpr auto kIndex = "model.safetensors.index.json";

}  // namespace

std::string safetensors_file(const std::string& header, const std::string& data) {
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  return file + header + data;
}

std::string safetensors_file(const StoredTensors& tensors) {
  Json header = Json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return safetensors_file(header.dump(), data);
}

const StoredTensors& bundled_tensors() {
  static const StoredTensors kTensors = [] {
    StoredTensors tensors;
    for (const char* name : {"model-1-of-2.safetensors", "model-2-of-2.safetensors"}) {
      const SafetensorsFile file(kModelFolder / name);
      for (const auto& [name, entry] : file.entries()) {
        const std::vector<char> bytes = file.bytes(name);
        tensors[name] = {entry.dtype, entry.shape, {bytes.begin(), bytes.end()}};
      }
    }
    return tensors;
  }();
  return kTensors;
}

StoredTensor scaled_tensor(const std::string& name, int exponent) {
  StoredTensor tensor = bundled_tensors().at(name);
  for (std::size_t i = 0; i < tensor.bytes.size(); i += 2) {
    hip_attn::bfloat16 value;
    std::memcpy(&value, &tensor.bytes[i], 2);
    value =
        hip_attn::from_float<hip_attn::bfloat16>(std::ldexp(hip_attn::to_float(value), exponent));
    std::memcpy(&tensor.bytes[i], &value, 2);
  }
  return tensor;
}

Json changed_config(const Json& changes) {
  Json config = Json::parse(read_file(kModelFolder / "config.json"));
  for (const auto& [key, value] : changes.items()) {
    if (value == "absent") {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  return config;
}

ModelFolder::ModelFolder(const Json& config_changes) {
  for (const auto& file : std::filesystem::directory_iterator(kModelFolder)) {
    std::filesystem::create_symlink(file.path(), path() / file.path().filename());
  }
  write("config.json", changed_config(config_changes).dump());
}

void ModelFolder::write(const std::string& name, const std::string& content) const {
  remove(name);  // a link, which would lead to the bundled file
  folder_.write(name, content);
}

void ModelFolder::remove(const std::string& name) const { std::filesystem::remove(path() / name); }

Json ModelFolder::index() const { return Json::parse(read_file(path() / kIndex)); }

void ModelFolder::write_index(const Json& index) const { write(kIndex, index.dump()); }

void ModelFolder::overlay(const std::string& file, const StoredTensors& tensors) const {
  write(file, safetensors_file(tensors));
  Json changed = index();
  for (const auto& [name, _] : tensors) changed["weight_map"][name] = file;
  write_index(changed);
}

double nll_of(const std::filesystem::path& model_folder) {
  constexpr std::int64_t kTokens = 513;  // 512 are predicted
  const Model model(model_folder, cpu());
  Engine engine(model, dense_attention(), options_for(kTokens));
  Sequence sequence = engine.new_sequence();
  return mean(text_nll(engine, sequence, haystack_tokens(kTokens), [](auto) {}));
}

double bundled_nll() {
  static const double kNll = nll_of(kModelFolder);
  return kNll;
}

}  // namespace llama::test
