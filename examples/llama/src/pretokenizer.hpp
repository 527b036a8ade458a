/// The first half of byte-level BPE: cutting text into pieces that no token crosses.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json_file.hpp"
#include "regex.hpp"

namespace llama {

class Pretokenizer {
 public:
  /// From the "pre_tokenizer" of a tokenizer.json: a ByteLevel, or a Sequence that ends with one.
  /// Before it Split, Digits, Punctuation, Whitespace, WhitespaceSplit and BertPreTokenizer may
  /// stand. Errors: kMalformedTokenizer, kUnsupportedTokenizer.
  static Pretokenizer parse(const Fields& fields);

  /// The pieces of a valid UTF-8 text, in order. Together they are the text, but for what the steps
  /// remove and the space that ByteLevel may put first.
  [[nodiscard]] std::vector<std::string> split(std::string_view text) const;

 private:
  /// What becomes of the matches of a pattern.
  enum class Behavior { kIsolated, kRemoved, kContiguous, kMergedWithPrevious, kMergedWithNext };
  struct Step {
    std::optional<Regex> pattern;  // without one the piece stays whole
    Behavior behavior = Behavior::kIsolated;
    bool inverted = false;          // what lies between the matches counts as matched
    bool add_prefix_space = false;  // to a piece that does not begin with one, before it is cut
  };

  static Behavior parse_behavior(const Fields& fields);
  static void cut(const Step& step, std::string piece, std::vector<std::string>& pieces);
  void parse_step(const Fields& fields);

  std::vector<Step> steps_;
  bool ends_with_byte_level_ = false;
};

}  // namespace llama
