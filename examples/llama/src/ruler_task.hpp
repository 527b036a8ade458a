/// Six tasks in the synthetic formats of RULER (arXiv 2404.06654, github.com/NVIDIA/RULER), made
/// offline of a text and a seed. docs/guide/quality.md says what each is, and what differs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "haystack.hpp"
#include "llama_config.hpp"
#include "tokenizer.hpp"

namespace llama {

enum class RulerKind : std::uint32_t {
  kSingleNeedle,      ///< niah_single_2: a number in a text
  kManyNeedles,       ///< niah_multikey_2: a number among sentences of the same form
  kManyUuids,         ///< niah_multikey_3: likewise with UUIDs as keys and values
  kVariableTracking,  ///< vt: variables that have a value by a chain of assignments
  kCommonWords,       ///< cwe: the ten words of a list that it has more often than the others
  kFrequentWords,     ///< fwe: the three most frequent words of a text of invented ones
};

/// RULER's names, in the order of RulerKind.
const std::vector<std::string>& ruler_names();
std::string_view to_string(RulerKind kind);
/// Of a name that ruler_names() has.
RulerKind ruler_kind(std::string_view name);

struct RulerTask {
  RulerKind kind{};
  std::int64_t context = 0;
  std::uint64_t seed = 0;
  std::string input;                 ///< text and question
  std::string answer_prefix;         ///< how the answer begins, which the model continues
  std::vector<std::string> outputs;  ///< what the answer is to contain
  std::string answer;                ///< an answer, as the formats before it suggest
  std::int64_t new_tokens = 0;       ///< that the model may generate
  std::vector<TokenId> tokens;       ///< of input and answer_prefix, special tokens in front
  std::vector<TokenId> answer_tokens;
};

/// The longest prompt of its kind with tokens + new_tokens <= context: one more unit of filling (a
/// word of the text, a sentence, an entry of the list) does not fit. new_tokens is RULER's number,
/// or what `answer` takes if that is more. Errors: kInvalidArgument for a context that is too
/// short.
RulerTask make_ruler_task(RulerKind kind, const Tokenizer& tokenizer, const Haystack& haystack,
                          std::int64_t context, std::uint64_t seed);

/// How much of `outputs` a generated answer contains, upper and lower case alike.
struct StringMatch {
  double all = 0;   ///< the share of outputs that it contains: RULER's score of these tasks
  double part = 0;  ///< 1 where it contains any of them, else 0
};
StringMatch match_strings(std::string_view generated, const std::vector<std::string>& outputs);

}  // namespace llama
