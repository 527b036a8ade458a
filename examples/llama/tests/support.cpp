#include "support.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>

#include "json_file.hpp"

namespace llama::test {

const Model& bundled_model() {
  static const Model model(kModelFolder);
  return model;
}

const Tokenizer& bundled_tokenizer() {
  static const Tokenizer tokenizer = load_tokenizer(kModelFolder, bundled_model().config());
  return tokenizer;
}

std::vector<TokenId> haystack_tokens(std::int64_t count) {
  std::vector<TokenId> tokens = text_tokens(bundled_tokenizer(), bundled_model().config(),
                                            read_file(kDataFolder / "haystack.txt"));
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
