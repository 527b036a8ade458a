/// Byte-level BPE, as a Hugging Face tokenizer.json describes it: the tokens are those of the
/// Python package tokenizers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "added_tokens.hpp"
#include "bpe.hpp"
#include "json_file.hpp"
#include "llama_config.hpp"
#include "normalizer.hpp"
#include "post_processor.hpp"
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

  /// The special tokens that the post-processor puts before and after a text.
  [[nodiscard]] const PostProcessor& post_processor() const noexcept { return post_processor_; }

  /// The tokens of a part of a text. Added tokens ("<|endoftext|>") are found in it; the
  /// post-processor's are not put around it. A byte that is not valid UTF-8 ends the text before it
  /// and is encoded by itself.
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const;

  /// The tokens of a whole text, between those of the post-processor.
  [[nodiscard]] std::vector<TokenId> encode_with_special_tokens(std::string_view text) const;

  /// The bytes of the tokens, of special ones too; ids outside the vocabulary give nothing. One
  /// token may hold a part of a UTF-8 character.
  [[nodiscard]] std::string decode(std::span<const TokenId> tokens) const;

 private:
  void add_tokens(const Fields& root);
  void check_post_processor(const std::string& where) const;
  void set_bytes(TokenId token, std::string bytes);
  void encode_valid(std::string_view text, std::vector<TokenId>& tokens) const;

  Normalizer normalizer_;
  Pretokenizer pretokenizer_;
  Bpe model_;
  PostProcessor post_processor_;
  AddedTokenFinder raw_tokens_;         // found before the text is normalized
  AddedTokenFinder normalized_tokens_;  // found after that, in what the others left
  std::vector<std::string> bytes_of_;   // by token id
};

/// The tokenizer.json of a model folder. Also kMalformedTokenizer when it has more tokens than the
/// model. Prints ignored_keys() on stderr.
Tokenizer load_tokenizer(const std::filesystem::path& folder, const LlamaConfig& config);

/// A sentence for each of add_bos_token and add_eos_token in a folder's tokenizer_config.json that
/// says otherwise than the post-processor, which decides as in transformers 5.
std::vector<std::string> ignored_keys(const std::filesystem::path& folder,
                                      const PostProcessor& post_processor);

}  // namespace llama
