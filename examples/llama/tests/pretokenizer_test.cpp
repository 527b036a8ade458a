#include "pretokenizer.hpp"

#include "support.hpp"

/// What the Python package tokenizers 0.23 makes of the same pre-tokenizers and texts.
namespace llama::test {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces(const Json& pre_tokenizer, const std::string& text) {
  const Fields fields(pre_tokenizer, "pre_tokenizer", ErrorCode::kMalformedTokenizer);
  return Pretokenizer::parse(fields).split(text);
}

Json byte_level(bool use_regex, bool add_prefix_space = false) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"use_regex", use_regex}};
}

/// The steps, then a ByteLevel that does not cut.
Json sequence(Json steps) {
  steps.push_back(byte_level(/*use_regex=*/false));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json split(const char* kind, const char* pattern, const char* behavior = "Isolated",
           bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{kind, pattern}}},
          {"behavior", behavior},
          {"invert", invert}};
}

const Json kGpt2 = byte_level(/*use_regex=*/true);

constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kCl100kPattern =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s)";
constexpr const char* kDeepSeekPattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

TEST_CASE("pretokenizer: the GPT-2 pattern") {
  REQUIRE(pieces(kGpt2, "").empty());
  REQUIRE(pieces(kGpt2, "Hello  world's 42 x+=1;\n\n  end ") ==
          Pieces{"Hello", " ", " world", "'s", " 42", " x", "+=", "1", ";", "\n\n ", " end", " "});
  // Contractions only in lower case; an apostrophe after a space is punctuation.
  REQUIRE(pieces(kGpt2, "IT'S 'll") == Pieces{"IT", "'", "S", " '", "ll"});
  REQUIRE(pieces(kGpt2, "we'll've") == Pieces{"we", "'ll", "'ve"});
  REQUIRE(pieces(kGpt2, "\tx\n") == Pieces{"\t", "x", "\n"});
  // Letters and numbers of any script; an ideographic space is white space.
  REQUIRE(pieces(kGpt2, "naïve Ωμ ٣٤ Ⅷ½ 日本\u3000語") ==
          Pieces{"naïve", " Ωμ", " ٣٤", " Ⅷ½", " 日本", "\u3000", "語"});
  REQUIRE(pieces(kGpt2, "“a”—b") == Pieces{"“", "a", "”—", "b"});
  // The Mongolian vowel separator has not been white space since Unicode 6.3; next line is.
  REQUIRE(pieces(kGpt2, "a\u180eb \u0085 x") == Pieces{"a", "\u180e", "b", " \u0085", " x"});
}

TEST_CASE("pretokenizer: the pattern of Llama 3, and that of Qwen2") {
  const Json llama3 = sequence({split("Regex", kLlama3Pattern)});
  REQUIRE(pieces(llama3, "IT'S 12345 (ok)\n\n  x \n y") ==
          Pieces{"IT", "'S", " ", "123", "45", " (", "ok", ")\n\n", " ", " x", " \n", " y"});
  REQUIRE(pieces(llama3, "\tint a;") == Pieces{"\tint", " a", ";"});
  // The long s is an s to whoever ignores case.
  REQUIRE(pieces(llama3, "it'ſ ok") == Pieces{"it", "'ſ", " ok"});
  REQUIRE(pieces(sequence({split("Regex", kQwen2Pattern)}), "IT'S 123 x_y\r\n\r\n  z") ==
          Pieces{"IT", "'S", " ", "1", "2", "3", " x", "_y", "\r\n\r\n", " ", " z"});
}

TEST_CASE("pretokenizer: the three patterns of DeepSeek, one after another") {
  const Json steps =
      sequence({split("Regex", R"(\p{N}{1,3})"), split("Regex", "[一-龥぀-ゟ゠-ヿ]+"),
                split("Regex", kDeepSeekPattern)});
  REQUIRE(pieces(steps, "x.append(1234) 価格は٣円、カナ e\u0301 🙂!\n ok") ==
          Pieces{"x", ".append", "(", "123", "4", ")", " ", "価格は", "٣", "円", "、", "カナ",
                 " e\u0301", " 🙂!\n", " ok"});
}

TEST_CASE("pretokenizer: patterns mean what they mean to Oniguruma") {
  // {1,3}+ repeats, where Perl's would be possessive, and $ is the end of any line.
  REQUIRE(pieces(sequence({split("Regex", kCl100kPattern)}), "we'LL pay 1234567 \n  x") ==
          Pieces{"we", "'LL", " pay", " ", "1234567", " \n", " ", " x"});
  REQUIRE(pieces(sequence({split("Regex", R"(^a|b$|\h+)")}), "ab\nab-ff") ==
          Pieces{"a", "b", "\n", "a", "b", "-", "ff"});
  // Classes have intersections, and Han is the script without its extensions.
  const char* han = R"([\p{Han}]+|[\p{L}&&[^\p{Han}]]+|\s+)";
  REQUIRE(pieces(sequence({split("Regex", han)}), "漢字kana、カナx") ==
          Pieces{"漢字", "kana", "、", "カナx"});
}

TEST_CASE("pretokenizer: what becomes of the matches of a Split") {
  const auto cut = [](const char* behavior, bool invert) {
    return pieces(sequence({split("String", "-", behavior, invert)}), "-the--end-");
  };
  REQUIRE(cut("Isolated", false) == Pieces{"-", "the", "-", "-", "end", "-"});
  REQUIRE(cut("Isolated", true) == Pieces{"-", "the", "-", "-", "end", "-"});
  REQUIRE(cut("Removed", false) == Pieces{"the", "end"});
  REQUIRE(cut("Removed", true) == Pieces{"-", "-", "-", "-"});
  REQUIRE(cut("Contiguous", false) == Pieces{"-", "the", "--", "end", "-"});
  REQUIRE(cut("Contiguous", true) == Pieces{"-", "the", "--", "end", "-"});
  REQUIRE(cut("MergedWithPrevious", false) == Pieces{"-", "the-", "-", "end-"});
  REQUIRE(cut("MergedWithPrevious", true) == Pieces{"-the", "-", "-end", "-"});
  REQUIRE(cut("MergedWithNext", false) == Pieces{"-the", "-", "-end", "-"});
  REQUIRE(cut("MergedWithNext", true) == Pieces{"-", "the-", "-", "end-"});
}

TEST_CASE("pretokenizer: literal patterns and empty matches") {
  REQUIRE(pieces(sequence({split("String", ".*")}), "a.*b") == Pieces{"a", ".*", "b"});
  REQUIRE(pieces(sequence({split("String", "")}), "aé") == Pieces{"a", "é"});
  REQUIRE(pieces(sequence({split("Regex", "(?=[A-Z])", "MergedWithNext")}), "aBcDE") ==
          Pieces{"a", "Bc", "D", "E"});
  REQUIRE(pieces(sequence({split("Regex", "x*", "Removed")}), "axxb") == Pieces{"a", "b"});
}

TEST_CASE("pretokenizer: digits, punctuation and white space") {
  const auto digits = [](bool individual) {
    return sequence({{{"type", "Digits"}, {"individual_digits", individual}}});
  };
  REQUIRE(pieces(digits(true), "is 945, 07") == Pieces{"is ", "9", "4", "5", ", ", "0", "7"});
  REQUIRE(pieces(digits(false), "is 945, 07Ⅷ½") == Pieces{"is ", "945", ", ", "07Ⅷ½"});

  REQUIRE(pieces(sequence({{{"type", "Punctuation"}}}), "Hey, you!? “x”+1") ==
          Pieces{"Hey", ",", " you", "!", "?", " ", "“", "x", "”", "+", "1"});
  REQUIRE(pieces(sequence({{{"type", "Punctuation"}, {"behavior", "MergedWithPrevious"}}}),
                 "Hey, you!?") == Pieces{"Hey,", " you!", "?"});
  REQUIRE(
      pieces(sequence({{{"type", "Whitespace"}}}), "Hey, it's\u3000naïve_1 ½ हिन्दी a\u200db\n!") ==
      Pieces{"Hey", ",", "it", "'", "s", "naïve_1", "½", "हिन्दी", "a\u200db", "!"});
  REQUIRE(pieces(sequence({{{"type", "WhitespaceSplit"}}}), " a,  b\u3000c\n") ==
          Pieces{"a,", "b", "c"});
  REQUIRE(pieces(sequence({{{"type", "BertPreTokenizer"}}}), " a,  b!!c\n") ==
          Pieces{"a", ",", "b", "!", "!", "c"});
}

TEST_CASE("pretokenizer: sequences in sequences, and the space that ByteLevel puts first") {
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const Json nested = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Sequence"}, {"pretokenizers", Json::array({digits})}}, sequence({})}}};
  REQUIRE(pieces(nested, "a12") == Pieces{"a", "1", "2"});

  REQUIRE(pieces(byte_level(true, true), "a b") == Pieces{" a", " b"});
  REQUIRE(pieces(byte_level(true, true), " a b") == Pieces{" a", " b"});
  REQUIRE(pieces(byte_level(false, true), "a b") == Pieces{" a b"});
  const Json each_piece = {{"type", "Sequence"},
                           {"pretokenizers", {digits, byte_level(true, true)}}};
  REQUIRE(pieces(each_piece, "a1 b") == Pieces{" a", " 1", " b"});
}

TEST_CASE("pretokenizer: other kinds are refused, naming what they are") {
  const auto refused = [](ErrorCode code, const Json& json, const std::string& words) {
    require_error(code, words, [&] { pieces(json, "x"); });
  };
  constexpr auto kUnsupported = ErrorCode::kUnsupportedTokenizer;
  refused(kUnsupported, {{"type", "Metaspace"}}, "type is \"Metaspace\"; this engine has Sequence");
  refused(kUnsupported, {{"type", "Digits"}, {"individual_digits", true}}, "there is no ByteLevel");
  refused(kUnsupported, sequence({kGpt2}),
          "step 1: type is \"ByteLevel\"; this engine has no step "
          "after ByteLevel");
  refused(kUnsupported, sequence({split("Regex", "(")}),
          "step 0: pattern \"(\" is not a regular expression of Oniguruma: end pattern with "
          "unmatched parenthesis");
  refused(kUnsupported, sequence({split("Regex", R"(\p{Nothing})")}),
          "invalid character property name {Nothing}");

  constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;
  refused(kMalformed, {{"type", "Sequence"}}, "pretokenizers is missing");
  refused(kMalformed, {{"type", "Sequence"}, {"pretokenizers", 1}}, "pretokenizers is 1");
  refused(kMalformed, {{"type", "ByteLevel"}},
          "add_prefix_space is missing; expected true or false");
  refused(kMalformed, sequence({split("Regex", "x", "Isolate")}),
          "behavior is \"Isolate\"; expected Isolated, Removed");
  refused(kMalformed, sequence({{{"type", "Split"}, {"behavior", "Isolated"}}}),
          "pattern is missing; expected an object");
  refused(kMalformed, sequence({split("Glob", "*")}), "Regex is missing");
}

TEST_CASE("pretokenizer: a pattern that does not come to an end is refused") {
  const Json endless = sequence({split("Regex", R"((a|a)*(?!a)(?=\w))")});
  require_error(ErrorCode::kUnsupportedTokenizer, "cannot be matched: retry-limit",
                [&] { pieces(endless, std::string(40, 'a')); });
}

}  // namespace
}  // namespace llama::test
