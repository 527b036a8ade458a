#include "ruler_formats.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <set>
#include <utility>

namespace llama {
namespace {

// The wordings of prompts here are RULER's, to the letter, so that results compare.

constexpr std::string_view kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/// Where the seed's independent sequences of numbers go.
enum Stream : std::uint32_t { kAnswer, kFilling, kPlaces, kExample };

struct Seed {
  std::uint64_t seed;
  RulerKind kind;
  [[nodiscard]] SeededDraw draw(Stream stream) const {
    return {seed, static_cast<std::uint32_t>(kind), stream};
  }
};

std::string draw_number(SeededDraw& draw, int digits) {
  std::int64_t least = 1;
  for (int i = 1; i < digits; ++i) least *= 10;
  return std::to_string(least + draw.below(9 * least));
}

/// Of version 4.
std::string draw_uuid(SeededDraw& draw) {
  const std::uint64_t high = draw.bits();
  const std::uint64_t low = draw.bits();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32, high >> 16 & 0xffff,
                     high & 0xfff, 0x8000 | (low >> 48 & 0x3fff), low & 0xffffffffffff);
}

/// Different names of capital letters.
std::vector<std::string> draw_names(SeededDraw& draw, std::size_t count, int letters) {
  std::vector<std::string> names;
  while (names.size() < count) {
    std::string name;
    for (int i = 0; i < letters; ++i) name += static_cast<char>('A' + draw.below(26));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

// ---- Needles ------------------------------------------------------------------------------------

struct Needle {
  std::string key;
  std::string value;
  [[nodiscard]] std::string sentence(std::string_view values) const {
    return fmt::format("One of the special magic {} for {} is: {}.", values, key, value);
  }
};

Needle draw_needle(RulerKind kind, const Haystack& haystack, SeededDraw& draw) {
  if (kind == RulerKind::kManyUuids) {
    std::string key = draw_uuid(draw);
    return {std::move(key), draw_uuid(draw)};
  }
  std::string key = draw_word_pair(haystack.vocabulary(), draw);
  return {std::move(key), draw_number(draw, 7)};
}

/// The text's first words, as often as it takes, with a sentence put between two of its sentences:
/// after one of 40 shares of them, from none to all.
std::string text_with(const std::string& sentence, const Haystack& haystack, std::int64_t words,
                      SeededDraw draw) {
  std::vector<std::string> sentences(1);
  for (std::int64_t i = 0; i < words; ++i) {
    const std::string_view word =
        haystack.words()[static_cast<std::size_t>(i) % haystack.words().size()];
    if (!sentences.back().empty()) sentences.back() += ' ';
    sentences.back() += word;
    const bool ends = word.back() == '.' || word.back() == '!' || word.back() == '?';
    if (ends && i + 1 < words) sentences.emplace_back();
  }
  const double share = std::nearbyint(100.0 * static_cast<double>(draw.below(40)) / 39) / 100;
  const auto place = static_cast<std::ptrdiff_t>(static_cast<double>(sentences.size()) * share);
  sentences.insert(sentences.begin() + place, sentence);
  return fmt::format("{}", fmt::join(sentences, " "));
}

/// Sentences of the same form with other keys, and the one that is asked for among them.
std::string needles_with(const Needle& needle, std::string_view values, const Haystack& haystack,
                         std::int64_t others, const Seed& seed) {
  SeededDraw draw = seed.draw(kFilling);
  std::vector<std::string> sentences;
  while (static_cast<std::int64_t>(sentences.size()) < others) {
    const Needle other = draw_needle(seed.kind, haystack, draw);
    if (other.key != needle.key) sentences.push_back(other.sentence(values));
  }
  sentences.insert(sentences.begin() + seed.draw(kPlaces).below(others), needle.sentence(values));
  return fmt::format("{}", fmt::join(sentences, "\n"));
}

RulerFormat needle_format(const Haystack& haystack, const Seed& seed) {
  const auto draft = [&haystack, seed](std::int64_t units) {
    SeededDraw draw = seed.draw(kAnswer);
    const Needle needle = draw_needle(seed.kind, haystack, draw);
    const std::string_view value = seed.kind == RulerKind::kManyUuids ? "uuid" : "number";
    const std::string values = fmt::format("{}s", value);
    const std::string context =
        seed.kind == RulerKind::kSingleNeedle
            ? text_with(needle.sentence(values), haystack, units, seed.draw(kPlaces))
            : needles_with(needle, values, haystack, units, seed);
    return RulerDraft{
        fmt::format("A special magic {0} is hidden within the following text. Make sure to "
                    "memorize it. I will quiz you about the {0} afterwards.\n{1}\nWhat is the "
                    "special magic {0} for {2} mentioned in the provided text?",
                    value, context, needle.key),
        fmt::format(" The special magic {} for {} mentioned in the provided text is", value,
                    needle.key),
        {needle.value},
        fmt::format(": {}.", needle.value)};
  };
  return {1, 128, draft};
}

// ---- Variables ----------------------------------------------------------------------------------

constexpr int kHops = 4;

/// A chain of assignments among lines of noise.
RulerDraft track_variables(SeededDraw draw, int letters, std::int64_t noise) {
  const std::vector<std::string> names = draw_names(draw, kHops + 1, letters);
  const std::string value = draw_number(draw, 5);
  std::vector<std::string> lines(static_cast<std::size_t>(noise), std::string(kNoise));
  const std::vector<std::int64_t> places = draw.distinct_below(noise, kHops + 1);
  for (std::size_t i = 0; i < names.size(); ++i) {
    lines.insert(lines.begin() + places[i] + static_cast<std::ptrdiff_t>(i),
                 i == 0 ? fmt::format("VAR {} = {}", names[0], value)
                        : fmt::format("VAR {} = VAR {} ", names[i], names[i - 1]));
  }
  return {
      fmt::format("Memorize and track the chain(s) of variable assignment hidden in the "
                  "following text.\n\n{}\nQuestion: Find all variables that are assigned the "
                  "value {} in the text above.",
                  fmt::join(lines, "\n"), value),
      fmt::format(" Answer: According to the chain(s) of variable assignment in the text above, "
                  "{} variables are assigned the value {}, they are: ",
                  kHops + 1, value),
      names, fmt::format(" {}", fmt::join(names, " "))};
}

/// An example with its answer stands in front, as long as 500 tokens allow.
RulerFormat variable_format(const Seed& seed,
                            const std::function<std::int64_t(std::string_view)>& count_tokens) {
  const auto example = [&](std::int64_t noise) {
    const RulerDraft draft = track_variables(seed.draw(kExample), 3, noise);
    return fmt::format("{}{}{}\n\n", draft.input, draft.answer_prefix, draft.answer);
  };
  const std::int64_t noise =
      most_units(kHops + 1, 500, [&](std::int64_t units) { return count_tokens(example(units)); });
  const auto draft =
      [seed, front = example(std::max<std::int64_t>(noise, kHops + 1))](std::int64_t units) {
        RulerDraft draft = track_variables(seed.draw(kAnswer), 5, units);
        draft.input = front + draft.input;
        return draft;
      };
  return {kHops + 1, 30, draft};
}

// ---- Words --------------------------------------------------------------------------------------

constexpr std::int64_t kCommonWords = 10;

std::string numbered(const std::vector<std::string>& words) {
  std::string list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    list += fmt::format("{}{}. {}", i == 0 ? "" : " ", i + 1, words[i]);
  }
  return list;
}

/// A list that has the first ten words `often` times and the others `seldom` times.
RulerDraft count_words(const std::vector<std::string>& words, int often, int seldom,
                       SeededDraw draw) {
  std::vector<std::string> list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    list.insert(list.end(), static_cast<std::size_t>(i < kCommonWords ? often : seldom), words[i]);
  }
  draw.shuffle(list);
  const std::vector<std::string> common(words.begin(), words.begin() + kCommonWords);
  return {fmt::format("Below is a numbered list of words. In these words, some appear more often "
                      "than others. Memorize the ones that appear most often.\n{}\nQuestion: What "
                      "are the 10 most common words in the above list?",
                      numbered(list)),
          " Answer: The top 10 words that appear most often in the list are:", common,
          fmt::format(" {}", numbered(common))};
}

/// An example with its answer stands in front. Of contexts below 4096 tokens both are shorter.
RulerFormat common_word_format(const Haystack& haystack, const Seed& seed, std::int64_t context) {
  const bool is_short = context < 4096;
  DistinctWords example_words(haystack.vocabulary(), seed.draw(kExample));
  const RulerDraft example = count_words(example_words.first(is_short ? 20 : 40), is_short ? 3 : 10,
                                         is_short ? 1 : 3, seed.draw(kExample));
  const auto words = std::make_shared<DistinctWords>(haystack.vocabulary(), seed.draw(kAnswer));
  const auto draft = [=](std::int64_t units) {
    RulerDraft draft =
        count_words(words->first(units), is_short ? 6 : 30, is_short ? 1 : 3, seed.draw(kFilling));
    draft.input = fmt::format("{}{}{}\n{}", example.input, example.answer_prefix, example.answer,
                              draft.input);
    return draft;
  };
  return {kCommonWords + 1, 120, draft};
}

/// Different words of six letters, the first of them dots, which the question tells to ignore.
std::vector<std::string> coded_words(SeededDraw draw, std::size_t count) {
  std::set<std::string> known;
  std::vector<std::string> words = {"..."};
  while (words.size() < count) {
    std::string word;
    for (int i = 0; i < 6; ++i) word += static_cast<char>('a' + draw.below(26));
    if (known.insert(word).second) words.push_back(word);
  }
  return words;
}

/// Word k, from 1 on, stands units / (k^2 zeta(2)) times in the text. From 60 units on the fourth
/// word, the least frequent of the answer, is more frequent than the fifth.
RulerFormat frequent_word_format(const Seed& seed, std::int64_t context) {
  constexpr std::int64_t kNewTokens = 50;
  const auto count = std::max<std::int64_t>(5, (context - kNewTokens) / 50);
  const auto draft = [seed, vocabulary =
                                coded_words(seed.draw(kAnswer), static_cast<std::size_t>(count))](
                         std::int64_t units) {
    constexpr double kZeta = std::numbers::pi * std::numbers::pi / 6;
    std::vector<std::string> text;
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      const auto rank = static_cast<double>(i + 1);
      text.insert(text.end(),
                  static_cast<std::size_t>(static_cast<double>(units) / (rank * rank * kZeta)),
                  vocabulary[i]);
    }
    seed.draw(kFilling).shuffle(text);
    const std::vector<std::string> frequent(vocabulary.begin() + 1, vocabulary.begin() + 4);
    return RulerDraft{
        fmt::format(
            "Read the following coded text and track the frequency of each coded word. Find "
            "the three most frequently appeared coded words. {}\nQuestion: Do not provide "
            "any explanation. Please ignore the dots '....'. What are the three most "
            "frequently appeared words in the above coded text?",
            fmt::join(text, " ")),
        " Answer: According to the coded text above, the three most frequently appeared words are:",
        frequent, fmt::format(" {}", fmt::join(frequent, ", "))};
  };
  return {60, kNewTokens, draft};
}

}  // namespace

RulerFormat ruler_format(RulerKind kind, const Haystack& haystack, std::int64_t context,
                         std::uint64_t seed,
                         const std::function<std::int64_t(std::string_view)>& count_tokens) {
  const Seed of_kind{seed, kind};
  switch (kind) {
    case RulerKind::kSingleNeedle:
    case RulerKind::kManyNeedles:
    case RulerKind::kManyUuids:
      return needle_format(haystack, of_kind);
    case RulerKind::kVariableTracking:
      return variable_format(of_kind, count_tokens);
    case RulerKind::kCommonWords:
      return common_word_format(haystack, of_kind, context);
    case RulerKind::kFrequentWords:
      break;
  }
  return frequent_word_format(of_kind, context);
}

std::int64_t most_units(std::int64_t least, std::int64_t budget,
                        const std::function<std::int64_t(std::int64_t)>& length) {
  std::int64_t fits = least;
  std::int64_t fitting_length = length(least);
  if (fitting_length > budget) return least - 1;
  // `exceeds` units do not fit. Small numbers first, whose lengths are cheap and tell the slope.
  std::int64_t exceeds = 2 * least + 16;
  std::int64_t exceeding_length = length(exceeds);
  while (exceeding_length <= budget) {
    const double slope = static_cast<double>(exceeding_length - fitting_length) /
                         static_cast<double>(exceeds - fits);
    const double rest = static_cast<double>(budget - exceeding_length) / std::max(slope, 0.1);
    fits = exceeds;
    fitting_length = exceeding_length;
    exceeds += std::max<std::int64_t>(1, static_cast<std::int64_t>(1.02 * rest) + 1);
    exceeding_length = length(exceeds);
  }
  while (exceeds - fits > 1) {
    const double share = static_cast<double>(budget - fitting_length) /
                         static_cast<double>(exceeding_length - fitting_length);
    const auto step = static_cast<std::int64_t>(share * static_cast<double>(exceeds - fits));
    const std::int64_t guess = std::clamp(fits + step, fits + 1, exceeds - 1);
    const std::int64_t guessed_length = length(guess);
    (guessed_length <= budget ? fits : exceeds) = guess;
    (guessed_length <= budget ? fitting_length : exceeding_length) = guessed_length;
  }
  return fits;
}

}  // namespace llama
