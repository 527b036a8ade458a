/// Byte-level BPE, as a Hugging Face tokenizer.json describes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json_file.hpp"
#include "llama_config.hpp"
#include "pretokenizer.hpp"

namespace llama {

class Tokenizer {
 public:
  /// Errors: kCannotReadFile, kMalformedTokenizer, kUnsupportedTokenizer.
  explicit Tokenizer(const std::filesystem::path& path);

  /// One more than the largest token id.
  [[nodiscard]] std::int64_t vocab_size() const noexcept {
    return static_cast<std::int64_t>(bytes_of_.size());
  }

  /// The tokens of a text. Added tokens ("<|endoftext|>") are found in it; none is put before it.
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const;

  /// The bytes of the tokens; ids outside the vocabulary give nothing. One token may hold a part
  /// of a UTF-8 character.
  [[nodiscard]] std::string decode(std::span<const TokenId> tokens) const;

 private:
  struct Merge {
    std::int32_t rank;
    TokenId merged;
  };
  static std::uint64_t pair_key(TokenId left, TokenId right) noexcept {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }

  void read_vocab(const Fields& model, const Json* added_tokens, const std::string& where);
  void read_merges(const Fields& model);
  void set_bytes(TokenId token, std::string bytes);
  void encode_piece(std::string_view piece, std::vector<TokenId>& tokens) const;

  Pretokenizer pretokenizer_;
  std::vector<std::string> bytes_of_;  // by token id
  std::unordered_map<std::string, TokenId> token_of_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::vector<std::pair<std::string, TokenId>> added_tokens_;
  TokenId token_of_byte_[256] = {};
  bool ignore_merges_ = false;
};

/// The tokenizer.json of a model folder. Also kMalformedTokenizer when it has more tokens than the
/// model.
Tokenizer load_tokenizer(const std::filesystem::path& folder, const LlamaConfig& config);

/// The tokens of a whole text: the model's bos token first, if it has one.
std::vector<TokenId> text_tokens(const Tokenizer& tokenizer, const LlamaConfig& config,
                                 std::string_view text);

}  // namespace llama
