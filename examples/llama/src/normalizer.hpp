/// What a tokenizer does to a text before anything else: Unicode normalization forms.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "json_file.hpp"

namespace llama {

class Normalizer {
 public:
  /// From the "normalizer" of a tokenizer.json: NFC, NFD, NFKC, NFKD or a Sequence of them. Errors:
  /// kMalformedTokenizer, kUnsupportedTokenizer.
  static Normalizer parse(const Fields& fields);

  /// The normalized form of a valid UTF-8 text.
  [[nodiscard]] std::string operator()(std::string_view text) const;

 private:
  void parse_step(const Fields& fields);

  std::vector<int> steps_;  // options of utf8proc
};

}  // namespace llama
