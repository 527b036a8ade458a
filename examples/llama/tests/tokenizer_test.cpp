#include "tokenizer.hpp"

#include <nlohmann/json.hpp>

#include "tokenizer_support.hpp"

/// Ids are those of the Python package tokenizers 0.23 for the same files and texts.
namespace llama::test {
namespace {

TEST_CASE("tokenizer: any bytes and broken UTF-8 survive a round trip") {
  const Tokenizer& tokenizer = bundled_tokenizer();
  REQUIRE(tokenizer.encode("").empty());
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  bytes += "\xf0\x9f\x98\x80\xf0\x9f\xc3";  // a whole emoji, then broken sequences
  REQUIRE(tokenizer.decode(tokenizer.encode(bytes)) == bytes);
  REQUIRE(tokenizer.decode(Ids{-1, 1 << 20}).empty());
  // A byte that is not valid UTF-8 is a piece of its own, between two texts.
  const TokenId byte_ff = tokenizer.encode("\xff").at(0);
  REQUIRE(tokenizer.encode("The\xffThe") == Ids{550, byte_ff, 550});
}

TEST_CASE("tokenizer: a piece of a million bytes is encoded in reasonable time") {
  const std::string piece(1'000'000, 'e');
  REQUIRE(bundled_tokenizer().decode(bundled_tokenizer().encode(piece)) == piece);
}

TEST_CASE("tokenizer: merges may be written as strings, and whole words may skip them") {
  Json json = bundled_json();
  for (Json& merge : json["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  json["model"]["merges"].insert(json["model"]["merges"].begin(), "#version: 0.2");
  REQUIRE(encode(json, "The secret code") == Ids{550, 445, 1112, 84, 831});

  json["model"]["merges"] = Json::array();
  json["model"]["ignore_merges"] = true;
  json["model"]["vocab"][""] = 4096;  // no piece is empty
  REQUIRE(encode(json, " is") == Ids{321});
  REQUIRE(encode(json, "qzqz") == Ids{81, 90, 81, 90});
  REQUIRE(encode(json, "isis") == Ids{73, 83, 73, 83});
}

TEST_CASE("tokenizer: the first merge goes first, and of equal ones the last counts") {
  Json json = bundled_json();
  const Json th = {"t", "h"};
  const Json he = {"h", "e"};
  json["model"]["merges"] = Json::array({th, he});
  REQUIRE(encode(json, "the") == Ids{593, 69});
  json["model"]["merges"] = Json::array({th, he, th});
  REQUIRE(encode(json, "the") == Ids{84, 269});
}

TEST_CASE("tokenizer: bytes that the vocabulary lacks are dropped or become the unknown token") {
  Json json = without_entries(bundled_json(), {"~"});
  REQUIRE(encode(json, "a~b") == Ids{65, 66});
  REQUIRE(encode(json, "~~").empty());
  json["model"]["unk_token"] = "<|endoftext|>";
  REQUIRE(encode(json, "a~~b") == Ids{65, 0, 0, 66});
  json["model"]["fuse_unk"] = true;
  REQUIRE(encode(json, "a~~b") == Ids{65, 0, 66});
  REQUIRE(encode(json, "~a~") == Ids{0, 65, 0});
}

TEST_CASE("tokenizer: values that change nothing, and entries that no text gives") {
  Json json = bundled_json();
  json["model"].erase("type");
  json["model"]["dropout"] = 0.0;
  json["model"]["unk_token"] = "";
  json["model"]["end_of_word_suffix"] = "";
  json["model"]["vocab"]["▁the"] = 4096;
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  json["truncation"] = {{"max_length", 1}};
  const Tokenizer changed = tokenizer(json);
  const std::string text = "The secret code for orchid is 945807. ▁the";
  REQUIRE(changed.encode(text) == bundled_tokenizer().encode(text));
  REQUIRE(changed.decode(Ids{4096}) == "▁the");
}

TEST_CASE("tokenizer: Unicode normalization forms") {
  const std::string text = "café cafe\u0301 ﬁ ½";
  const auto normalized = [&](const Json& normalizer) {
    Json json = bundled_json();
    json["normalizer"] = normalizer;
    return encode(json, text);
  };
  REQUIRE(normalized(nullptr) ==
          Ids{826, 70, 128, 103, 277, 776, 137, 224, 221, 172, 106, 224, 221, 127, 122});
  REQUIRE(normalized({{"type", "NFC"}}) ==
          Ids{826, 70, 128, 103, 1244, 70, 128, 103, 221, 172, 106, 224, 221, 127, 122});
  REQUIRE(normalized({{"type", "NFD"}}) ==
          Ids{67, 776, 137, 224, 277, 776, 137, 224, 221, 172, 106, 224, 221, 127, 122});
  REQUIRE(normalized({{"type", "NFKC"}}) ==
          Ids{826, 70, 128, 103, 1244, 70, 128, 103, 276, 73, 221, 17, 159, 224, 227, 18});
  const Ids nfkd = {67, 776, 137, 224, 277, 776, 137, 224, 276, 73, 221, 17, 159, 224, 227, 18};
  REQUIRE(normalized({{"type", "NFKD"}}) == nfkd);
  REQUIRE(normalized({{"type", "Sequence"},
                      {"normalizers", {{{"type", "NFC"}}, {{"type", "NFKD"}}}}}) == nfkd);
}

TEST_CASE("tokenizer: ByteLevel's first space, once for each text between added tokens") {
  Json json = with_added(bundled_json(), {{"<m>"}});
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  REQUIRE(encode(json, "is<m>is") == Ids{321, 4096, 321});
  REQUIRE(encode(json, " is") == Ids{321});
}

TEST_CASE("tokenizer: other kinds are refused, naming what they are") {
  const auto refused = [](const char* pointer, const Json& value, const std::string& words) {
    Json json = bundled_json();
    json[Json::json_pointer(pointer)] = value;
    require_error(ErrorCode::kUnsupportedTokenizer, words, [&] { tokenizer(json); });
  };
  refused("/version", "2.0", "version is \"2.0\"");
  refused("/model/type", "Unigram", "type is \"Unigram\"");
  refused("/model/type", "WordPiece", "type is \"WordPiece\"");
  refused("/model/byte_fallback", true, "SentencePiece");
  refused("/model/end_of_word_suffix", "</w>", "end_of_word_suffix is \"</w>\"");
  refused("/model/dropout", 0.1, "dropout is 0.1");
  refused("/normalizer", {{"type", "Lowercase"}}, "normalizer: type is \"Lowercase\"");
  refused("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Strip"}}}}},
          "normalizer step 0: type is \"Strip\"");
  refused("/pre_tokenizer", nullptr, "pre_tokenizer is missing");
  refused("/pre_tokenizer", {{"type", "Metaspace"}}, "pre_tokenizer: type is \"Metaspace\"");
  refused("/decoder/type", "WordPiece", "decoder is \"WordPiece\"");
}

TEST_CASE("tokenizer: malformed files are refused") {
  constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& content, const std::string& words) {
    const auto path = folder.write("tokenizer.json", content);
    require_error(kMalformed, words, [&] { Tokenizer tokenizer(path); });
  };
  const auto changed = [](const char* pointer, const Json& value) {
    Json json = bundled_json();
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
  refused(changed("/model/vocab/zzzz", 17), "\"1\" and \"zzzz\" have the same id, 17");
  refused(changed("/model/merges", "x"), "merges is \"x\"; expected a list");
  refused(changed("/model/merges/0", "nospace"), "has no space");
  refused(changed("/model/merges/0", 7), "is neither");
  refused(changed("/model/merges/0", {"q", "zqzq"}), "outside the vocabulary");
  refused(changed("/model/merges/0", "a b c"), "outside the vocabulary");
  Json no_byte = without_entries(bundled_json(), {"~"});
  no_byte["model"]["unk_token"] = "<unk>";
  refused(no_byte.dump(), "no token for byte 126, nor unk_token \"<unk>\"");

  folder.write("tokenizer.json", changed("/model/vocab/zzzzqqqq", 5000));
  require_error(kMalformed, "vocab_size is 4096",
                [&] { load_tokenizer(folder.path(), bundled_model().config()); });
}

}  // namespace
}  // namespace llama::test
