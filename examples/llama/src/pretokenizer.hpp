/// The first half of byte-level BPE: cutting text into pieces that no token crosses.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "json_file.hpp"

namespace llama {

class Pretokenizer {
 public:
  /// From the "pre_tokenizer" of a tokenizer.json: ByteLevel, or a Sequence of Digits
  /// (individual_digits), Split (with the Llama 3 pattern) and a final ByteLevel. Errors:
  /// kMalformedTokenizer, kUnsupportedTokenizer.
  static Pretokenizer parse(const Fields& fields);

  /// The pieces of the text, in order; together they are the text.
  [[nodiscard]] std::vector<std::string_view> split(std::string_view text) const;

 private:
  enum class Step { kDigits, kGpt2Pattern, kLlama3Pattern };
  void parse_step(const Fields& fields);

  std::vector<Step> steps_;
};

}  // namespace llama
