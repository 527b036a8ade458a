/// The second half of byte-level BPE: the tokens of a piece of text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json_file.hpp"
#include "llama_config.hpp"

namespace llama {

/// Token ids by what a tokenizer.json calls the tokens.
using Vocabulary = std::unordered_map<std::string, TokenId>;

class Bpe {
 public:
  /// From the "model" of a tokenizer.json. Errors: kMalformedTokenizer, kUnsupportedTokenizer.
  static Bpe parse(const Fields& fields);

  [[nodiscard]] const Vocabulary& vocabulary() const noexcept { return vocabulary_; }

  /// Appends the tokens of a piece. A byte that the vocabulary lacks gives the unknown token if the
  /// model has one, and nothing otherwise.
  void encode(std::string_view piece, std::vector<TokenId>& tokens) const;

 private:
  struct Merge {
    std::int32_t rank;
    TokenId merged;
  };
  struct Symbol {
    TokenId token;
    int previous;
    int next;
  };
  static std::uint64_t pair_key(TokenId left, TokenId right) noexcept {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }

  void read_vocabulary(const Fields& fields);
  void read_bytes(const Fields& fields);
  void read_merges(const Fields& fields);
  [[nodiscard]] std::vector<Symbol> symbols_of(std::string_view piece) const;
  void merge(std::vector<Symbol>& symbols) const;

  Vocabulary vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::optional<TokenId>, 256> token_of_byte_;
  std::optional<TokenId> unknown_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

}  // namespace llama
