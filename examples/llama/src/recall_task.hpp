/// The recall test: codes hidden in a long text, and the questions for them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "llama_config.hpp"
#include "tokenizer.hpp"

namespace llama {

/// A sentence of the text that the model is asked about later.
struct Fact {
  std::string word;
  std::string code;             ///< decimal digits
  std::int64_t position = 0;    ///< of its first token in the text
  std::int64_t size = 0;        ///< tokens
  std::int64_t code_begin = 0;  ///< position of the code's first digit; one token per digit
  std::vector<TokenId> question;
};

struct RecallTask {
  std::int64_t context = 0;
  std::uint64_t seed = 0;
  std::vector<TokenId> text;
  std::vector<Fact> facts;  ///< in order of position
};

/// Hides one sentence per word of reference.json in the beginning of haystack.txt: one at a seeded
/// place in each of as many equal parts, in seeded order, each with one of its codes. The text is
/// as long as leaves room in `context` tokens for the longest question and its answer, so that
/// nothing stands beyond `context`. Errors: kCannotReadFile, kMalformedReference, kInvalidArgument
/// for a context that is too short or longer than the haystack.
RecallTask make_recall_task(const Tokenizer& tokenizer, const std::filesystem::path& data_folder,
                            std::int64_t context, std::uint64_t seed);

}  // namespace llama
