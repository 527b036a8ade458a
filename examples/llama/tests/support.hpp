/// What the tests share: the bundled model, temporary files, expected errors.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "attention.hpp"
#include "catch.hpp"
#include "error.hpp"
#include "model.hpp"
#include "tokenizer.hpp"

namespace llama::test {

inline const std::filesystem::path kModelFolder = LLAMA_MODEL_FOLDER;
inline const std::filesystem::path kDataFolder = LLAMA_DATA_FOLDER;

/// Loaded once per test program.
const Model& bundled_model();
const Tokenizer& bundled_tokenizer();

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

AttentionOptions dense_attention();
AttentionOptions hip_attention(const hip_attn::HipConfig& config);

}  // namespace llama::test
