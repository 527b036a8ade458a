#include "tokenizer.hpp"

#include <nlohmann/json.hpp>

#include "pretokenizer.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

Json bundled() { return Json::parse(read_file(kModelFolder / "tokenizer.json")); }

std::vector<std::string> pieces(const Json& pre_tokenizer, const std::string& text) {
  const Fields fields(pre_tokenizer, "pre_tokenizer", ErrorCode::kMalformedTokenizer);
  const auto views = Pretokenizer::parse(fields).split(text);
  return {views.begin(), views.end()};
}

using Pieces = std::vector<std::string>;

const Json kByteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", false}};

Json llama3_pattern() {
  return {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"},
         {"pattern",
          {{"Regex",
            R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
         {"behavior", "Isolated"},
         {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
}

TEST_CASE("pretokenizer: the GPT-2 pattern") {
  REQUIRE(pieces(kByteLevel, "").empty());
  REQUIRE(pieces(kByteLevel, "Hello  world's 42 x+=1;\n\n  end ") ==
          Pieces{"Hello", " ", " world", "'s", " 42", " x", "+=", "1", ";", "\n\n ", " end", " "});
  // Contractions only in lower case; an apostrophe after a space is punctuation.
  REQUIRE(pieces(kByteLevel, "IT'S 'll") == Pieces{"IT", "'", "S", " '", "ll"});
  REQUIRE(pieces(kByteLevel, "we'll've") == Pieces{"we", "'ll", "'ve"});
  REQUIRE(pieces(kByteLevel, "\tx\n") == Pieces{"\t", "x", "\n"});
  // Letters and numbers of any script; an ideographic space is white space.
  REQUIRE(pieces(kByteLevel, "naïve Ωμ ٣٤ Ⅷ½ 日本\u3000語") ==
          Pieces{"naïve", " Ωμ", " ٣٤", " Ⅷ½", " 日本", "\u3000", "語"});
  REQUIRE(pieces(kByteLevel, "“a”—b") == Pieces{"“", "a", "”—", "b"});
}

TEST_CASE("pretokenizer: digits one by one") {
  Json sequence = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, kByteLevel}}};
  REQUIRE(pieces(sequence, "is 945, 07") == Pieces{"is", " ", "9", "4", "5", ",", " ", "0", "7"});
}

TEST_CASE("pretokenizer: the Llama 3 pattern") {
  REQUIRE(pieces(llama3_pattern(), "IT'S 12345 (ok)\n\n  x \n y") ==
          Pieces{"IT", "'S", " ", "123", "45", " (", "ok", ")\n\n", " ", " x", " \n", " y"});
  REQUIRE(pieces(llama3_pattern(), "\tint a;") == Pieces{"\tint", " a", ";"});
}

TEST_CASE("tokenizer: added tokens, any bytes and broken UTF-8 survive a round trip") {
  const Tokenizer& tokenizer = bundled_tokenizer();
  REQUIRE(tokenizer.encode("<|endoftext|>") == std::vector<TokenId>{0});
  const auto tokens = tokenizer.encode("a<|endoftext|><|endoftext|>b");
  REQUIRE(tokens.size() == 4);
  REQUIRE(tokens[1] == 0);
  REQUIRE(tokens[2] == 0);
  REQUIRE(tokenizer.encode("").empty());
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  bytes += "\xf0\x9f\x98\x80\xf0\x9f\xc3";  // a whole emoji, then broken sequences
  REQUIRE(tokenizer.decode(tokenizer.encode(bytes)) == bytes);
  REQUIRE(tokenizer.decode(std::vector<TokenId>{-1, 1 << 20}).empty());
}

TEST_CASE("tokenizer: a piece of a million bytes is encoded in reasonable time") {
  const std::string piece(1'000'000, 'e');
  REQUIRE(bundled_tokenizer().decode(bundled_tokenizer().encode(piece)) == piece);
}

TEST_CASE("tokenizer: merges may be written as strings, and whole words may skip them") {
  const TemporaryFolder folder;
  Json json = bundled();
  for (Json& merge : json["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const std::string text = "The secret code for orchid is 945807. Remember it.";
  const Tokenizer strings(folder.write("tokenizer.json", json.dump()));
  REQUIRE(strings.encode(text) == bundled_tokenizer().encode(text));

  json["model"]["merges"] = Json::array();
  json["model"]["ignore_merges"] = true;
  const Tokenizer whole_words(folder.write("tokenizer.json", json.dump()));
  REQUIRE(whole_words.encode(" is") == bundled_tokenizer().encode(" is"));
  REQUIRE(whole_words.encode("qzqz").size() == 4);
}

TEST_CASE("tokenizer: other kinds are refused, naming what they are") {
  constexpr auto kUnsupported = ErrorCode::kUnsupportedTokenizer;
  const auto refused = [](const char* pointer, const Json& value, const std::string& words) {
    const TemporaryFolder folder;
    Json json = bundled();
    json[Json::json_pointer(pointer)] = value;
    require_error(kUnsupported, words,
                  [&] { Tokenizer tokenizer(folder.write("tokenizer.json", json.dump())); });
  };
  refused("/model/type", "Unigram", "type is \"Unigram\"");
  refused("/model/type", "WordPiece", "type is \"WordPiece\"");
  refused("/model/byte_fallback", true, "SentencePiece");
  refused("/model/end_of_word_suffix", "</w>", "end_of_word_suffix is \"</w>\"");
  refused("/model/dropout", 0.1, "dropout");
  refused("/normalizer", {{"type", "NFC"}}, "normalizer is {\"type\":\"NFC\"}");
  refused("/pre_tokenizer", nullptr, "pre_tokenizer is missing");
  refused("/pre_tokenizer", {{"type", "Metaspace"}}, "type is \"Metaspace\"");
  refused("/pre_tokenizer", {{"type", "Digits"}, {"individual_digits", true}},
          "the last step, and no other, is ByteLevel");
  refused("/pre_tokenizer/pretokenizers/0/individual_digits", false, "individual_digits is false");
  refused("/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "add_prefix_space is true");
  Json other_pattern = llama3_pattern();
  other_pattern["pretokenizers"][0]["pattern"]["Regex"] = "\\s+";
  refused("/pre_tokenizer", other_pattern, "Split by {\"Regex\":\"\\\\s+\"}");
  refused("/decoder/type", "WordPiece", "decoder is \"WordPiece\"");
  refused("/added_tokens/0/lstrip", true, "lstrip true");
  refused("/model/vocab/▁the", 17, "\"▁the\", which is not written in the characters");
}

TEST_CASE("tokenizer: malformed files are refused") {
  constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& content, const std::string& words) {
    const auto path = folder.write("tokenizer.json", content);
    require_error(kMalformed, words, [&] { Tokenizer tokenizer(path); });
  };
  const auto changed = [](const char* pointer, const Json& value) {
    Json json = bundled();
    json[Json::json_pointer(pointer)] = value;
    return json.dump();
  };
  require_error(ErrorCode::kCannotReadFile, "nowhere.json",
                [&] { Tokenizer tokenizer(folder.path() / "nowhere.json"); });
  refused("{", "not valid JSON");
  refused("{}", "model is missing");
  refused(changed("/model/vocab", 3), "vocab is 3; expected an object");
  refused(changed("/model/vocab/a", -1), "id is -1");
  refused(changed("/model/vocab/a", 1 << 30), "id is 1073741824");
  refused(changed("/model/merges", "x"), "merges is \"x\"; expected a list");
  refused(changed("/model/merges/0", "nospace"), "has no space");
  refused(changed("/model/merges/0", 7), "is neither");
  refused(changed("/model/merges/0", {"q", "zqzq"}), "outside the vocabulary");
  refused(changed("/model/merges/0", {"▁", "a"}), "byte-level characters");
  Json no_byte = bundled();
  no_byte["model"]["vocab"].erase("a");
  refused(no_byte.dump(), "no token for byte 97");

  folder.write("tokenizer.json", changed("/model/vocab/zzzzqqqq", 5000));
  require_error(kMalformed, "vocab_size is 4096",
                [&] { load_tokenizer(folder.path(), bundled_model().config()); });
}

}  // namespace
}  // namespace llama::test
