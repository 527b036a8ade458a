#include "pretokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "unicode.hpp"

namespace llama {
namespace {

constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A text and, below, the alternatives of the two patterns as functions from where a match starts
/// to where it ends.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text), characters_(decode_utf8(text)) {}

  [[nodiscard]] std::size_t size() const { return characters_.size(); }
  [[nodiscard]] char32_t at(std::size_t i) const {
    return i < size() ? characters_[i].code_point : U'\0';
  }
  [[nodiscard]] bool is(std::size_t i, CharClass char_class) const {
    return i < size() && characters_[i].char_class == char_class;
  }
  [[nodiscard]] bool is_line_break(std::size_t i) const { return at(i) == '\r' || at(i) == '\n'; }

  /// The end of the run of one class that begins at i; i when there is none.
  [[nodiscard]] std::size_t run(std::size_t i, CharClass char_class) const {
    while (is(i, char_class)) ++i;
    return i;
  }

  /// 's|'t|'re|'ve|'m|'ll|'d
  [[nodiscard]] std::size_t contraction(std::size_t i, bool ignore_case) const {
    if (at(i) != '\'') return i;
    const auto letter = [&](std::size_t k) {
      return ignore_case && at(k) >= 'A' && at(k) <= 'Z' ? at(k) + ('a' - 'A') : at(k);
    };
    for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      std::size_t matched = 0;
      while (matched < ending.size() &&
             letter(i + 1 + matched) == static_cast<unsigned char>(ending[matched])) {
        ++matched;
      }
      if (matched == ending.size()) return i + 1 + matched;
    }
    return i;
  }

  /// \s+(?!\S)|\s+ : a run of white space gives its last character to what follows.
  [[nodiscard]] std::size_t spaces(std::size_t i) const {
    const std::size_t end = run(i, CharClass::kSpace);
    return end < size() && end - i > 1 ? end - 1 : end;
  }

  void cut(std::size_t first, std::size_t last, std::vector<std::string_view>& pieces) const {
    const std::size_t begin = characters_[first].offset;
    const std::size_t end = last < size() ? characters_[last].offset : text_.size();
    pieces.push_back(text_.substr(begin, end - begin));
  }

 private:
  std::string_view text_;
  std::vector<Character> characters_;
};

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t match_gpt2(const Scanner& text, std::size_t i) {
  if (const std::size_t end = text.contraction(i, false); end > i) return end;
  const std::size_t word = text.at(i) == ' ' ? i + 1 : i;
  for (const auto char_class : {CharClass::kLetter, CharClass::kNumber, CharClass::kOther}) {
    if (text.is(word, char_class)) return text.run(word, char_class);
  }
  return text.spaces(i);
}

/// kLlama3Regex
std::size_t match_llama3(const Scanner& text, std::size_t i) {
  if (const std::size_t end = text.contraction(i, true); end > i) return end;
  if (text.is(i, CharClass::kLetter)) return text.run(i, CharClass::kLetter);
  if (text.is(i, CharClass::kNumber)) {
    return std::min(i + 3, text.run(i, CharClass::kNumber));
  }
  if (!text.is_line_break(i) && text.is(i + 1, CharClass::kLetter)) {
    return text.run(i + 1, CharClass::kLetter);
  }
  const std::size_t word = text.at(i) == ' ' ? i + 1 : i;
  if (text.is(word, CharClass::kOther)) {
    std::size_t end = text.run(word, CharClass::kOther);
    while (text.is_line_break(end)) ++end;
    return end;
  }
  // \s*[\r\n]+ : up to the last line break of the white space.
  for (std::size_t end = text.run(i, CharClass::kSpace); end > i; --end) {
    if (text.is_line_break(end - 1)) return end;
  }
  return text.spaces(i);
}

/// Every number character is a piece of its own.
std::size_t match_digits(const Scanner& text, std::size_t i) {
  if (text.is(i, CharClass::kNumber)) return i + 1;
  while (i < text.size() && !text.is(i, CharClass::kNumber)) ++i;
  return i;
}

[[noreturn]] void unsupported(const Fields& fields, const std::string& what) {
  throw Error(ErrorCode::kUnsupportedTokenizer, fmt::format("{}: {}", fields.where(), what));
}

}  // namespace

void Pretokenizer::parse_step(const Fields& fields) {
  const std::string type = fields.string("type");
  if (type == "ByteLevel") {
    if (fields.boolean("add_prefix_space", true)) {
      unsupported(fields, "add_prefix_space is true; this engine has it false");
    }
    if (fields.boolean("use_regex", true)) steps_.push_back(Step::kGpt2Pattern);
  } else if (type == "Digits") {
    if (!fields.boolean("individual_digits", false)) {
      unsupported(fields, "individual_digits is false; this engine has it true");
    }
    steps_.push_back(Step::kDigits);
  } else if (type == "Split") {
    const Fields pattern = fields.object("pattern");
    if (pattern.string("Regex", "") != kLlama3Regex || fields.string("behavior") != "Isolated" ||
        fields.boolean("invert", false)) {
      unsupported(fields, fmt::format("Split by {}; this engine knows the pattern of Llama 3 alone",
                                      pattern.json().dump()));
    }
    steps_.push_back(Step::kLlama3Pattern);
  } else {
    unsupported(fields,
                fmt::format("type is \"{}\"; this engine has Digits, Split and ByteLevel", type));
  }
}

Pretokenizer Pretokenizer::parse(const Fields& fields) {
  const bool is_sequence = fields.string("type") == "Sequence";
  const Json steps = is_sequence ? fields.at("pretokenizers") : Json::array({fields.json()});
  if (!steps.is_array() || steps.empty()) fields.reject("pretokenizers", "a list of steps");
  Pretokenizer pretokenizer;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Fields step(steps[i], fmt::format("{} step {}", fields.where(), i),
                      ErrorCode::kMalformedTokenizer);
    pretokenizer.parse_step(step);
    if ((step.string("type") == "ByteLevel") != (i + 1 == steps.size())) {
      unsupported(step, fmt::format("type is \"{}\"; the last step, and no other, is ByteLevel",
                                    step.string("type")));
    }
  }
  return pretokenizer;
}

std::vector<std::string_view> Pretokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces{text};
  for (const Step step : steps_) {
    const auto match = step == Step::kDigits        ? match_digits
                       : step == Step::kGpt2Pattern ? match_gpt2
                                                    : match_llama3;
    std::vector<std::string_view> cut;
    for (const std::string_view piece : pieces) {
      const Scanner scanner(piece);
      for (std::size_t i = 0; i < scanner.size();) {
        const std::size_t end = match(scanner, i);
        scanner.cut(i, end, cut);
        i = end;
      }
    }
    pieces = std::move(cut);
  }
  return pieces;
}

}  // namespace llama
