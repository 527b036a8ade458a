/// Regular expressions as a tokenizer.json writes them: in the syntax of Oniguruma, which
/// tokenizers reads them with.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct re_pattern_buffer;

namespace llama {

/// A part of a text that one match covers, or that lies between two.
struct Segment {
  std::string_view text;
  bool is_match;
};

class Regex {
 public:
  enum class Syntax { kOniguruma, kLiteral };

  /// kUnsupportedTokenizer when the pattern is not valid; `where` names it in the message.
  Regex(const std::string& pattern, const std::string& where, Syntax syntax = Syntax::kOniguruma);

  /// The segments of a valid UTF-8 text in order, which together are the text. A match may be
  /// empty. kUnsupportedTokenizer when matching takes more than the ten million steps that
  /// Oniguruma allows.
  [[nodiscard]] std::vector<Segment> segments(std::string_view text) const;

  /// Whether a match begins where the text does.
  [[nodiscard]] bool begins(std::string_view text) const;

 private:
  [[noreturn]] void fail(int code) const;

  std::string name_;
  std::shared_ptr<re_pattern_buffer> compiled_;
};

}  // namespace llama
