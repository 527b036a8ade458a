#include <nlohmann/json.hpp>

#include "support.hpp"
#include "tokenizer_support.hpp"

/// What the Python package tokenizers 0.23 makes of the same files and texts.
namespace llama::test {
namespace {

/// The bundled tokenizer with more added tokens.
Json bundled_with(const std::vector<NewToken>& tokens) {
  return with_added(bundled_json(), tokens);
}

Ids encode_with(const std::vector<NewToken>& tokens, const std::string& text) {
  return encode(bundled_with(tokens), text);
}

TEST_CASE("added tokens: entries of the vocabulary, found before the pieces are made") {
  // A pad token, a letter, and two that merges make.
  const std::vector<NewToken> entries = {{"!"}, {"q", "normalized"}, {"er", "normalized"}, {"the"}};
  REQUIRE(encode_with(entries, "Stop! Now!!") == Ids{875, 470, 1, 370, 512, 1, 1});
  REQUIRE(encode_with(entries, "quick faq") == Ids{81, 85, 1972, 276, 65, 81});
  REQUIRE(encode_with(entries, "the other") == Ids{964, 292, 964, 82});
  REQUIRE(encode_with({}, "Stop! Now!!") == Ids{875, 470, 1, 370, 512, 2382});
  REQUIRE(encode_with({}, "quick faq") == Ids{483, 1972, 276, 65, 81});
  REQUIRE(encode_with({}, "the other") == Ids{964, 563});

  // The text that is looked for is the entry as it is written, not the bytes that it stands for.
  const Tokenizer word = tokenizer(bundled_with({{"Ġthe"}}));
  REQUIRE(word.encode("the Ġthe the") == Ids{964, 221, 278, 278});
  REQUIRE(word.decode(Ids{278}) == " the");
}

TEST_CASE("added tokens: a byte that the vocabulary lacks") {
  const Json no_tilde = without_entries(bundled_json(), {"~"});
  const Tokenizer added = tokenizer(with_added(no_tilde, {{"~", "normalized"}}));
  REQUIRE(added.encode("a~b ~~") == Ids{65, 4096, 66, 221, 4096, 4096});
  REQUIRE(added.decode(added.encode("a~b ~~")) == "a~b ~~");
  REQUIRE(encode(with_added(no_tilde, {{"~", "single_word"}}), "a~b ~") == Ids{65, 66, 221, 4096});
  // The second byte of é is written ©, which is another character's token.
  const Json no_a9 = without_entries(bundled_json(), {"©"});
  REQUIRE(encode(with_added(no_a9, {{"©"}}), "© é ã") == Ids{4096, 3088, 3088, 97});
}

TEST_CASE("added tokens: those that are not normalized are found first") {
  const std::vector<NewToken> tokens = {{"<b>"}, {"a<b", "normalized"}};
  REQUIRE(encode_with(tokens, "a<b>") == Ids{65, 4096});
  REQUIRE(encode_with(tokens, "a<b") == Ids{4097});
  REQUIRE(encode_with(tokens, "xa<b><b") == Ids{88, 65, 4096, 28, 66});
}

TEST_CASE("added tokens: the leftmost is found, and the longest that begins there") {
  REQUIRE(encode_with({{"qz"}, {"qzqz"}, {"zq"}}, "qzq qzqz qzqqzz zqzq") ==
          Ids{4096, 81, 221, 4097, 221, 4096, 81, 4096, 90, 221, 4098, 4098});
}

TEST_CASE("added tokens: single words") {
  REQUIRE(encode_with({{"zq", "single_word"}}, "zq zqs czq zq, zq_") ==
          Ids{4096, 1086, 81, 83, 277, 90, 81, 221, 4096, 12, 1086, 81, 63});
  REQUIRE(encode_with({{"zq", "single_word"}}, "猫zq ¡zq! ½zq a\u200dzq e\u0301zq") ==
          Ids{164,  235, 105, 90,  81, 455, 95,  4096, 1,   221, 127, 122,
              4096, 265, 542, 236, 90, 81,  313, 137,  224, 90,  81});
  // Where another token was found before, the text begins anew.
  REQUIRE(encode_with({{"<b>"}, {"zq", "single_word normalized"}}, "a<b>zq") ==
          Ids{65, 4096, 4097});
  REQUIRE(encode_with({{"<b>"}, {"zq", "single_word normalized"}}, "azq") == Ids{1864, 81});
}

TEST_CASE("added tokens: white space before and after") {
  REQUIRE(encode_with({{"<m>", "lstrip"}}, "a \n <m> b<m>") == Ids{65, 4096, 291, 4096});
  REQUIRE(encode_with({{"<m>", "lstrip"}}, "  <m>") == Ids{4096});
  REQUIRE(encode_with({{"<m>", "rstrip"}}, "a <m>\u3000\t b <m>") ==
          Ids{65, 221, 4096, 66, 221, 4096});
  REQUIRE(encode_with({{"<m>", "lstrip rstrip"}}, "a <m> <m>  b") == Ids{65, 4096, 4096, 66});
  REQUIRE(encode_with({{"<b>"}, {"<m>", "lstrip normalized"}}, "<b> <m>") == Ids{4096, 4097});
}

TEST_CASE("added tokens: white space that is a token and is taken by another") {
  REQUIRE(encode_with({{"  ", "lstrip rstrip"}}, "x        y") == Ids{88, 4096, 89});
  REQUIRE(encode_with({{"<m>", "rstrip"}, {"  "}}, "<m>    y") == Ids{4096, 4097, 4097, 89});
}

TEST_CASE("added tokens: repeated and empty ones") {
  Json json = bundled_with({{"<m>"}, {"<m>", "rstrip"}, {""}});
  REQUIRE(encode(json, "<m>  x") == Ids{4096, 88});
}

TEST_CASE("added tokens: normalized ones are normalized, and looked for in normalized text") {
  Json json = bundled_with({{"e\u0301"}, {"qe\u0301", "normalized"}});
  json["normalizer"] = {{"type", "NFC"}};
  REQUIRE(encode(json, "e\u0301") == Ids{4096});
  REQUIRE(encode(json, "é") == Ids{128, 103});
  REQUIRE(encode(json, "qé") == Ids{4097});
  REQUIRE(encode(json, "qe\u0301") == Ids{81, 4096});
  REQUIRE(encode(json, "cafe\u0301") == Ids{826, 70, 4096});
  REQUIRE(tokenizer(json).decode(Ids{4096, 4097}) == "e\u0301qé");

  // tokenizers takes either, as its hash table happens to be ordered.
  Json twice = bundled_with({{"qe\u0301", "normalized"}, {"qé", "normalized"}});
  twice["normalizer"] = {{"type", "NFC"}};
  require_error(ErrorCode::kMalformedTokenizer,
                "added_tokens: 4096 and 4097 are both \"qé\" when normalized",
                [&] { tokenizer(twice); });
}

TEST_CASE("added tokens: what is malformed") {
  const auto refused = [](const char* pointer, const Json& value, const std::string& words) {
    Json json = bundled_with({{"<m>"}});
    json[Json::json_pointer(pointer)] = value;
    require_error(ErrorCode::kMalformedTokenizer, words, [&] { tokenizer(json); });
  };
  refused("/added_tokens", 3, "added_tokens is 3; expected a list");
  refused("/added_tokens/1", "<m>", "added_tokens is a JSON string; expected an object");
  refused("/added_tokens/1/content", 3, "content is 3; expected a string");
  refused("/added_tokens/1/normalized", nullptr, "\"<m>\": normalized is null; expected true or");
  refused("/added_tokens/1/rstrip", 1, "\"<m>\": rstrip is 1; expected true or false");
  refused("/added_tokens/1/id", "x", "\"<m>\": id is \"x\"");
  // Ids that tokenizers would not give: a hole, and another than the vocabulary's.
  refused("/added_tokens/1/id", 5000, "\"<m>\": id is 5000; expected 4096");
  refused("/added_tokens/0/id", 7, "\"<|endoftext|>\": id is 7; expected 0");
}

}  // namespace
}  // namespace llama::test
