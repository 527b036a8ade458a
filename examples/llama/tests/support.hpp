/// What the tests share: the bundled model, temporary files, expected errors.
#pragma once

#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "attention.hpp"
#include "catch.hpp"
#include "cuda_backend.hpp"
#include "engine.hpp"
#include "error.hpp"
#include "model.hpp"
#include "tokenizer.hpp"

namespace llama::test {

inline const std::filesystem::path kModelFolder = LLAMA_MODEL_FOLDER;
inline const std::filesystem::path kDataFolder = LLAMA_DATA_FOLDER;
inline const std::filesystem::path kConfigFolder = LLAMA_CONFIG_FOLDER;

Backend& cpu();

/// Loaded once per test program, on the CPU.
const Model& bundled_model();
const Tokenizer& bundled_tokenizer();

/// A GPU with weights and activations of a 16-bit type, and the model on it. With a GPU only.
Backend& gpu(hip_attn::ElementType type);
const Model& bundled_model_on_gpu(hip_attn::ElementType type);

/// The first tokens of the haystack.
std::vector<TokenId> haystack_tokens(std::int64_t count);

/// A fresh folder, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Writes a file and returns where it is.
  std::filesystem::path write(const std::string& name, const std::string& content) const;

 private:
  std::filesystem::path path_;
};

/// Requires that `action` throws an Error with the code and with `words` in its message.
template <typename Action>
void require_error(ErrorCode code, const std::string& words, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    CAPTURE(error.what());
    REQUIRE(std::string(to_string(error.code())) == to_string(code));
    REQUIRE(std::string(error.what()).find(words) != std::string::npos);
    return;
  }
  FAIL("no error; expected " << to_string(code));
}

/// The largest absolute difference of two equally long lists.
double largest_difference(const std::vector<float>& a, const std::vector<float>& b);

/// The next token's logits after a prompt.
std::vector<float> prompt_logits(Engine& engine, Sequence& sequence,
                                 std::span<const TokenId> prompt);

/// For a single sequence.
EngineOptions options_for(std::int64_t max_seq_len);

/// Selects a quarter of the keys of a text of 2048 tokens.
hip_attn::HipConfig sparse_config();

/// Two levels of landmarks, which both leave chunks out of a text of 2048 tokens, and every key.
hip_attn::HipConfig landmark_config();

AttentionOptions dense_attention();
AttentionOptions hip_attention(const hip_attn::HipConfig& config);

}  // namespace llama::test

/// Ends the test case as skipped where there is no GPU: tests/CMakeLists.txt has the pattern that
/// ctest looks for.
#define REQUIRE_GPU()                                            \
  if (const auto status = ::llama::check_cuda(); !status.ok()) { \
    std::cout << "skipped: " << status.message() << std::endl;   \
    return;                                                      \
  }                                                              \
  static_assert(true)
