#include "ruler_task.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "ruler_formats.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

const Haystack& haystack() {
  static const Haystack kHaystack = Haystack::read(kDataFolder / "haystack.txt");
  return kHaystack;
}

RulerTask task_of(RulerKind kind, std::int64_t context = 4096, std::uint64_t seed = 1) {
  return make_ruler_task(kind, bundled_tokenizer(), haystack(), context, seed);
}

std::vector<RulerKind> all_kinds() {
  std::vector<RulerKind> kinds;
  for (const std::string& name : ruler_names()) kinds.push_back(ruler_kind(name));
  return kinds;
}

std::int64_t occurrences(const std::string& text, const std::string& of) {
  std::int64_t count = 0;
  for (auto at = text.find(of); at != std::string::npos; at = text.find(of, at + 1)) ++count;
  return count;
}

/// What stands between the last `begin` and the `end` behind it.
std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const auto first = text.rfind(begin) + begin.size();
  return text.substr(first, text.find(end, first) - first);
}

std::map<std::string, std::int64_t> counts_of(const std::string& words) {
  std::map<std::string, std::int64_t> counts;
  std::istringstream stream(words);
  for (std::string word; stream >> word;) ++counts[word];
  return counts;
}

TEST_CASE("ruler: a prompt and its answer fill the context, and one more unit would not fit") {
  // Tokens of the longest unit: a word, a sentence, four of a list's words as often as it has them.
  const std::map<RulerKind, std::int64_t> unit = {
      {RulerKind::kSingleNeedle, 40},    {RulerKind::kManyNeedles, 50},
      {RulerKind::kManyUuids, 110},      {RulerKind::kVariableTracking, 50},
      {RulerKind::kCommonWords, 3 * 16}, {RulerKind::kFrequentWords, 40}};
  for (const RulerKind kind : all_kinds()) {
    for (const std::int64_t context : {1500, 4096, 9000}) {
      const RulerTask task = task_of(kind, context);
      CAPTURE(to_string(kind), context, task.tokens.size(), task.new_tokens);
      const std::int64_t length = std::ssize(task.tokens) + task.new_tokens;
      CHECK(length <= context);
      CHECK(length > context - unit.at(kind));
      CHECK(task.new_tokens >= std::ssize(task.answer_tokens));
      CHECK(task.tokens.front() == 0);
      CHECK(bundled_tokenizer().decode(std::span(task.tokens).subspan(1)) ==
            task.input + task.answer_prefix);
    }
  }
}

TEST_CASE("ruler: the number of units is the largest that fits, found with few lengths") {
  for (const std::int64_t budget : {7, 8, 100, 4093, 4096, 1000000}) {
    std::int64_t calls = 0;
    // Grows by 7 on average, unevenly, and a little faster the longer it is.
    const auto length = [&](std::int64_t units) {
      ++calls;
      return 7 * units + units % 5 + units * units / 100000;
    };
    const std::int64_t units = most_units(1, budget, length);
    CAPTURE(budget, units, calls);
    CHECK(calls <= 14);
    if (units > 0) CHECK(length(units) <= budget);
    CHECK(length(units + 1) > budget);
  }
}

TEST_CASE("ruler: a seed has one task, and another seed another answer and other filling") {
  for (const RulerKind kind : all_kinds()) {
    CAPTURE(to_string(kind));
    const RulerTask task = task_of(kind);
    CHECK(task.input == task_of(kind).input);
    const RulerTask other = task_of(kind, 4096, 2);
    CHECK(task.outputs != other.outputs);
    CHECK(task.input != other.input);
    CHECK(task.answer_prefix.size() > 40);
    for (const std::string& output : task.outputs) {
      CHECK(occurrences(task.input, output) > 0);
      CHECK(occurrences(task.answer, output) == 1);
      CHECK(occurrences(task.answer_prefix, output) == 0);
    }
  }
}

TEST_CASE("ruler: the asked needle stands once in the text, in the form of the others") {
  for (const RulerKind kind :
       {RulerKind::kSingleNeedle, RulerKind::kManyNeedles, RulerKind::kManyUuids}) {
    for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
      const RulerTask task = task_of(kind, 3000, seed);
      const std::string key = between(task.input, " for ", " mentioned");
      CAPTURE(to_string(kind), seed, key);
      const std::string type = kind == RulerKind::kManyUuids ? "uuid" : "number";
      CHECK(occurrences(task.input, fmt::format("One of the special magic {}s for {} is: {}.", type,
                                                key, task.outputs.front())) == 1);
      CHECK(occurrences(task.input, key) == 2);  // there and in the question
      CHECK(task.answer_prefix.find(key) != std::string::npos);
      const std::int64_t needles = occurrences(task.input, "One of the special magic ");
      CHECK((kind == RulerKind::kSingleNeedle ? needles == 1 : needles > 20));
      CHECK(task.outputs.front().size() == (kind == RulerKind::kManyUuids ? 36u : 7u));
    }
  }
}

TEST_CASE("ruler: needles of a text lie at different depths, between its sentences") {
  std::int64_t early = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const RulerTask task = task_of(RulerKind::kSingleNeedle, 2000, seed);
    const auto at = task.input.find("One of the special magic numbers for");
    const char before = task.input[at - 2];
    CAPTURE(seed, at, before);
    CHECK((before == '.' || before == '!' || before == '?' || task.input[at - 1] == '\n' ||
           task.input.find("\nWhat is the special") < at + 100));
    early += at < task.input.size() / 2;
  }
  CHECK(early >= 4);
  CHECK(early <= 16);
}

TEST_CASE("ruler: variables are assigned along a chain, in its order") {
  const RulerTask task = task_of(RulerKind::kVariableTracking);
  REQUIRE(task.outputs.size() == 5);
  const std::string value = between(task.input, " assigned the value ", " in the text");
  // Behind the example.
  std::size_t at = task.input.rfind("Memorize and track");
  REQUIRE(task.input.find("Memorize and track") < at);
  for (std::size_t i = 0; i < task.outputs.size(); ++i) {
    const std::string from = i == 0 ? value : "VAR " + task.outputs[i - 1];
    const std::string line = fmt::format("\nVAR {} = {}", task.outputs[i], from);
    CAPTURE(line);
    at = task.input.find(line, at);
    REQUIRE(at != std::string::npos);
    CHECK(occurrences(task.input, line) == 1);
  }
  CHECK(task.answer_prefix.find("5 variables are assigned the value " + value) !=
        std::string::npos);
}

TEST_CASE("ruler: the common words stand thirty times in the list and the others three times") {
  for (const auto& [context, often, seldom] :
       {std::tuple{2048, 6, 1}, {4096, 30, 3}, {40000, 30, 3}}) {
    const RulerTask task = task_of(RulerKind::kCommonWords, context);
    auto counts = counts_of(between(task.input, "appear most often.\n", "\nQuestion"));
    std::int64_t numbers = 0;
    for (auto it = counts.begin(); it != counts.end();) {
      const bool is_number = it->first.back() == '.';
      numbers += is_number;
      it = is_number ? counts.erase(it) : std::next(it);
    }
    CAPTURE(context, numbers);
    REQUIRE(task.outputs.size() == 10);
    for (const std::string& word : task.outputs) {
      CHECK(counts[word] == often);
      counts.erase(word);
    }
    CHECK(!counts.empty());
    CHECK(std::all_of(counts.begin(), counts.end(),
                      [&, seldom = seldom](const auto& count) { return count.second == seldom; }));
    CHECK(numbers == 10 * often + std::ssize(counts) * seldom);
  }
}

TEST_CASE("ruler: the frequent words are the three most frequent but for the dots") {
  for (const std::int64_t context : {1500, 4096, 20000}) {
    const RulerTask task = task_of(RulerKind::kFrequentWords, context);
    auto counts = counts_of(between(task.input, "coded words. ", "\nQuestion"));
    CAPTURE(context);
    std::int64_t before = counts.at("...");
    for (const std::string& word : task.outputs) {
      CHECK(counts.at(word) < before);
      before = counts.at(word);
      counts.erase(word);
    }
    counts.erase("...");
    for (const auto& [word, count] : counts) CHECK(count < before);
  }
}

TEST_CASE("ruler: a context that the shortest prompt does not fit is refused") {
  for (const RulerKind kind : all_kinds()) {
    require_error(ErrorCode::kInvalidArgument, "context is 100; expected at least ",
                  [&] { task_of(kind, 100); });
  }
}

TEST_CASE("ruler: an answer scores by the outputs that it contains") {
  const std::vector<std::string> outputs = {"ABC", "def", "12"};
  CHECK(match_strings("abc, DEF and 12.", outputs).all == 1);
  CHECK(match_strings("x12", outputs).all == 1.0 / 3);
  CHECK(match_strings("x12", outputs).part == 1);
  CHECK(match_strings("ab c 1 2", outputs).all == 0);
  CHECK(match_strings("", outputs).part == 0);
}

TEST_CASE("ruler: a haystack's words are whole, and there are more where they do not suffice") {
  std::string text = "Un mot; snake_case x9 CamelCase émotion ";
  for (int i = 0; i < 120; ++i) {
    text += fmt::format("{}{} ", static_cast<char>('a' + i / 26),
                        std::string(3, static_cast<char>('a' + i % 26)));
  }
  const Haystack small(text, "a text");
  CHECK(small.vocabulary().size() == 121);  // and "mot"
  CHECK(small.words().front() == "Un");
  CHECK(small.words()[1] == "mot;");

  DistinctWords words(small.vocabulary(), SeededDraw(1));
  const auto many = words.first(500);
  CHECK(std::set<std::string>(many.begin(), many.end()).size() == 500);
  CHECK(std::count_if(many.begin(), many.end(),
                      [](const std::string& word) { return word.find('-') < word.size(); }) == 379);
  const auto few = words.first(100);
  CHECK(std::equal(few.begin(), few.end(), many.begin()));
  require_error(ErrorCode::kInvalidArgument, "a text has 1 different words",
                [] { Haystack("the the The", "a text"); });
}

}  // namespace
}  // namespace llama::test
