#include "pretokenizer.hpp"

#include <fmt/format.h>

#include <utility>

namespace llama {
namespace {

// The patterns that tokenizers has built in. Where it asks Rust for the class of a character rather
// than Oniguruma, the classes are those of Rust: there \w has the two joiners.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kPunctuation = R"([!-/:-@\[-`{-~\p{P}])";
constexpr const char* kSpace = R"(\s)";
constexpr const char* kWordOrMarks = R"([\w\x{200c}\x{200d}]+|[^\w\x{200c}\x{200d}\s]+)";

}  // namespace

Pretokenizer::Behavior Pretokenizer::parse_behavior(const Fields& fields) {
  const std::string behavior = fields.string("behavior");
  if (behavior == "Isolated") return Behavior::kIsolated;
  if (behavior == "Removed") return Behavior::kRemoved;
  if (behavior == "Contiguous") return Behavior::kContiguous;
  if (behavior == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (behavior == "MergedWithNext") return Behavior::kMergedWithNext;
  fields.reject("behavior", "Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext");
}

void Pretokenizer::parse_step(const Fields& fields) {
  const std::string type = fields.string("type");
  if (ends_with_byte_level_) {
    fields.fail(ErrorCode::kUnsupportedTokenizer,
                fmt::format("type is \"{}\"; this engine has no step after ByteLevel", type));
  }
  const auto add = [&](const char* pattern, Behavior behavior, bool inverted = false) {
    steps_.push_back({Regex(pattern, fields.where()), behavior, inverted});
  };
  if (type == "Sequence") {
    const Json& steps = fields.at("pretokenizers");
    if (!steps.is_array()) fields.reject("pretokenizers", "a list of steps");
    for (std::size_t i = 0; i < steps.size(); ++i) {
      parse_step(Fields(steps[i], fmt::format("{} step {}", fields.where(), i),
                        ErrorCode::kMalformedTokenizer));
    }
  } else if (type == "ByteLevel") {
    if (!fields.find("add_prefix_space")) fields.reject("add_prefix_space", "true or false");
    if (fields.boolean("use_regex", true)) {
      add(kGpt2Pattern, Behavior::kIsolated);
    } else {
      steps_.emplace_back();
    }
    steps_.back().add_prefix_space = fields.boolean("add_prefix_space", true);
    ends_with_byte_level_ = true;
  } else if (type == "Digits") {
    add(kDigit,
        fields.boolean("individual_digits", false) ? Behavior::kIsolated : Behavior::kContiguous);
  } else if (type == "Punctuation") {
    add(kPunctuation, fields.find("behavior") ? parse_behavior(fields) : Behavior::kIsolated);
  } else if (type == "Whitespace") {
    add(kWordOrMarks, Behavior::kRemoved, /*inverted=*/true);
  } else if (type == "WhitespaceSplit") {
    add(kSpace, Behavior::kRemoved);
  } else if (type == "BertPreTokenizer") {
    add(kSpace, Behavior::kRemoved);
    add(kPunctuation, Behavior::kIsolated);
  } else if (type == "Split") {
    const Fields pattern = fields.object("pattern");
    const bool literal = pattern.find("String") != nullptr;
    steps_.push_back({Regex(pattern.string(literal ? "String" : "Regex"), fields.where(),
                            literal ? Regex::Syntax::kLiteral : Regex::Syntax::kOniguruma),
                      parse_behavior(fields), fields.boolean("invert", false)});
  } else {
    fields.fail(ErrorCode::kUnsupportedTokenizer,
                fmt::format("type is \"{}\"; this engine has Sequence, Split, Digits, Punctuation, "
                            "Whitespace, WhitespaceSplit, BertPreTokenizer and ByteLevel",
                            type));
  }
}

Pretokenizer Pretokenizer::parse(const Fields& fields) {
  Pretokenizer pretokenizer;
  pretokenizer.parse_step(fields);
  if (!pretokenizer.ends_with_byte_level_) {
    fields.fail(ErrorCode::kUnsupportedTokenizer,
                "there is no ByteLevel; this engine has byte-level BPE");
  }
  return pretokenizer;
}

void Pretokenizer::cut(const Step& step, std::string piece, std::vector<std::string>& pieces) {
  if (step.add_prefix_space && !piece.starts_with(' ')) piece.insert(0, 1, ' ');
  if (!step.pattern) {
    pieces.push_back(std::move(piece));
    return;
  }
  const auto joined = [&](bool left_matched, bool right_matched) {
    switch (step.behavior) {
      case Behavior::kContiguous:
        return left_matched == right_matched;
      case Behavior::kMergedWithPrevious:
        return right_matched && !left_matched;
      case Behavior::kMergedWithNext:
        return left_matched && !right_matched;
      default:
        return false;
    }
  };
  const std::vector<Segment> segments = step.pattern->segments(piece);
  std::string part;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const bool matched = segments[i].is_match != step.inverted;
    if (step.behavior != Behavior::kRemoved || !matched) part += segments[i].text;
    const bool last = i + 1 == segments.size();
    if (!last && joined(matched, segments[i + 1].is_match != step.inverted)) continue;
    if (!part.empty()) pieces.push_back(std::exchange(part, {}));
  }
}

std::vector<std::string> Pretokenizer::split(std::string_view text) const {
  std::vector<std::string> pieces;
  if (!text.empty()) pieces.emplace_back(text);
  for (const Step& step : steps_) {
    std::vector<std::string> parts;
    for (std::string& piece : pieces) cut(step, std::move(piece), parts);
    pieces = std::move(parts);
  }
  return pieces;
}

}  // namespace llama
