#include "recall_task.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "error.hpp"
#include "json_file.hpp"
#include "reference.hpp"
#include "seeded_draw.hpp"

namespace llama {
namespace {

/// The facts of the reference in its order, not yet placed.
std::vector<Fact> make_facts(const Tokenizer& tokenizer, const Reference& reference) {
  std::vector<Fact> facts;
  for (std::size_t i = 0; i < reference.passkey_words.size(); ++i) {
    Fact& fact = facts.emplace_back();
    fact.word = reference.passkey_words[i];
    fact.code = reference.passkey_codes[i];
    fact.question = tokenizer.encode(
        fmt::format("\nQuestion: What is the secret code for {}? Answer: ", fact.word));
  }
  return facts;
}

}  // namespace

RecallTask make_recall_task(const Tokenizer& tokenizer, const std::filesystem::path& data_folder,
                            std::int64_t context, std::uint64_t seed) {
  RecallTask task;
  task.context = context;
  task.seed = seed;
  task.facts = make_facts(tokenizer, load_reference(data_folder / "reference.json"));
  SeededDraw draw(seed);
  for (std::size_t i = task.facts.size(); i > 1; --i) {
    std::swap(task.facts[i - 1], task.facts[draw.below(static_cast<std::int64_t>(i))]);
    std::swap(task.facts[i - 1].code, task.facts[draw.below(static_cast<std::int64_t>(i))].code);
  }

  std::vector<std::vector<TokenId>> sentences;
  std::int64_t sentence_tokens = 0;
  std::int64_t reserve = 0;
  for (const Fact& fact : task.facts) {
    sentences.push_back(tokenizer.encode(
        fmt::format("\nThe secret code for {} is {}. Remember it.\n", fact.word, fact.code)));
    sentence_tokens += static_cast<std::int64_t>(sentences.back().size());
    reserve = std::max(reserve, static_cast<std::int64_t>(fact.question.size() + fact.code.size()));
  }

  std::vector<TokenId> haystack = tokenizer.encode(read_file(data_folder / "haystack.txt"));
  const auto before = tokenizer.post_processor().before();
  haystack.insert(haystack.begin(), before.begin(), before.end());
  const std::int64_t others = sentence_tokens + reserve;
  const auto most = static_cast<std::int64_t>(haystack.size()) + others;
  const auto num_facts = static_cast<std::int64_t>(task.facts.size());
  if (context < 2 * others || context > most) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("context is {}; expected {} (twice what the facts and a question take) "
                            "to {} tokens (what the haystack fills)",
                            context, 2 * others, most));
  }
  haystack.resize(context - others);

  const auto length = static_cast<std::int64_t>(haystack.size());
  std::int64_t taken = 0;
  const auto take_until = [&](std::int64_t end) {
    task.text.insert(task.text.end(), haystack.begin() + taken, haystack.begin() + end);
    taken = end;
  };
  for (std::int64_t i = 0; i < num_facts; ++i) {
    const std::int64_t part_begin = length * i / num_facts;
    const std::int64_t part_end = length * (i + 1) / num_facts;
    // Not among the tokens that begin every text.
    take_until(std::max(std::ssize(before), part_begin + draw.below(part_end - part_begin)));
    Fact& fact = task.facts[i];
    const auto& sentence = sentences[i];
    fact.position = static_cast<std::int64_t>(task.text.size());
    fact.size = static_cast<std::int64_t>(sentence.size());
    const auto before_code = fmt::format("\nThe secret code for {} is ", fact.word);
    fact.code_begin =
        fact.position + static_cast<std::int64_t>(tokenizer.encode(before_code).size());
    task.text.insert(task.text.end(), sentence.begin(), sentence.end());
  }
  take_until(length);
  return task;
}

}  // namespace llama
