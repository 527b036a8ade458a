#include "support.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>

#include "cpu_backend.hpp"
#include "json_file.hpp"

namespace llama::test {

Backend& cpu() {
  static const auto backend = make_cpu_backend();
  return *backend;
}

const Model& bundled_model() {
  static const Model model(kModelFolder, cpu());
  return model;
}

Backend& gpu(hip_attn::ElementType type) {
  static std::map<hip_attn::ElementType, std::unique_ptr<Backend>> backends;
  auto& backend = backends[type];
  if (!backend) backend = make_cuda_backend(type);
  return *backend;
}

const Model& bundled_model_on_gpu(hip_attn::ElementType type) {
  Backend& backend = gpu(type);  // made first, so that it goes last
  static std::map<hip_attn::ElementType, Model> models;
  return models.try_emplace(type, kModelFolder, backend).first->second;
}

const Tokenizer& bundled_tokenizer() {
  static const Tokenizer tokenizer = load_tokenizer(kModelFolder, bundled_model().config());
  return tokenizer;
}

std::vector<TokenId> haystack_tokens(std::int64_t count) {
  std::vector<TokenId> tokens =
      bundled_tokenizer().encode_with_special_tokens(read_file(kDataFolder / "haystack.txt"));
  tokens.resize(count);
  return tokens;
}

TemporaryFolder::TemporaryFolder() {
  static std::atomic<int> count = 0;
  path_ = std::filesystem::temp_directory_path() /
          ("llama_test_" + std::to_string(getpid()) + "_" + std::to_string(count++));
  std::filesystem::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path TemporaryFolder::write(const std::string& name,
                                             const std::string& content) const {
  std::ofstream(path_ / name, std::ios::binary) << content;
  return path_ / name;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // a NaN stays
  }
  return largest;
}

std::vector<float> prompt_logits(Engine& engine, Sequence& sequence,
                                 std::span<const TokenId> prompt) {
  engine.prefill(sequence, prompt.first(prompt.size() - 1), [](auto, auto) {});
  const BatchEntry last{&sequence, prompt.last(1)};
  return engine.run(Phase::kDecode, {&last, 1});
}

EngineOptions options_for(std::int64_t max_seq_len) {
  EngineOptions options;
  options.max_seq_len = max_seq_len;
  options.cache_tokens = max_seq_len;
  return options;
}

hip_attn::HipConfig sparse_config() {
  hip_attn::HipConfig config;
  config.sink = 64;
  config.window = 256;
  config.stages = {{64, 512, 4}, {8, 256, 1}};
  config.refresh_interval = {16, 8};
  return config;
}

hip_attn::HipConfig landmark_config() {
  using hip_attn::Reduction;
  using hip_attn::ScanRule;
  hip_attn::HipConfig config;
  config.sink = 64;
  config.window = 256;
  config.stages = {{64, 512, 4, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {16, 256, 4, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {8, 128, 4, ScanRule::kEveryKey, Reduction::kSoftmaxSum}};
  return config;
}

AttentionOptions dense_attention() {
  AttentionOptions options;
  options.mode = AttentionMode::kDense;
  return options;
}

AttentionOptions hip_attention(const hip_attn::HipConfig& config) {
  AttentionOptions options;
  options.config.decode_layers = {config};
  return options;
}

}  // namespace llama::test
