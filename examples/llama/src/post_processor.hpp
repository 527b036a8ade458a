/// The special tokens that a tokenizer puts around a text.
#pragma once

#include <span>
#include <vector>

#include "json_file.hpp"
#include "llama_config.hpp"

namespace llama {

class PostProcessor {
 public:
  /// From the "post_processor" of a tokenizer.json: TemplateProcessing, whose template for a single
  /// text counts, BertProcessing, RobertaProcessing, ByteLevel, which adds nothing, or a Sequence
  /// in which one of them adds tokens. Errors: kMalformedTokenizer, kUnsupportedTokenizer.
  static PostProcessor parse(const Fields& fields);

  [[nodiscard]] std::span<const TokenId> before() const noexcept { return before_; }
  [[nodiscard]] std::span<const TokenId> after() const noexcept { return after_; }

 private:
  void parse_step(const Fields& fields);
  void parse_template(const Fields& fields);

  std::vector<TokenId> before_;
  std::vector<TokenId> after_;
};

}  // namespace llama
