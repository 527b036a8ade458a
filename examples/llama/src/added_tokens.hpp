/// Tokens that are found in a text before it is cut into pieces, such as "<|endoftext|>".
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "bpe.hpp"
#include "json_file.hpp"

namespace marisa {
class Trie;
}

namespace llama {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  ///< is not a token beside a letter, mark, digit or underscore
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space after it
  bool normalized = false;   ///< is normalized, and looked for in the normalized text
};

/// From the "added_tokens" of a tokenizer.json, with the ids that tokenizers gives them: a
/// vocabulary entry's own, and those that follow the vocabulary for the rest, in order.
/// kMalformedTokenizer when the file says other ids.
std::vector<AddedToken> read_added_tokens(const Fields& root, const Vocabulary& vocabulary);

/// Finds some added tokens in texts, in time that grows with the text and not with their number.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  /// kMalformedTokenizer when two have the same content; `where` names their file.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, const std::string& where);

  /// A token, or text between tokens.
  using Part = std::variant<TokenId, std::string_view>;

  /// The parts of a valid UTF-8 text: the leftmost token, the longest of those that begin there,
  /// then the same after it.
  [[nodiscard]] std::vector<Part> split(std::string_view text) const;

 private:
  std::shared_ptr<const marisa::Trie> trie_;
  std::vector<AddedToken> tokens_;  // by key of the trie
};

}  // namespace llama
