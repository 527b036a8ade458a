#include "post_processor.hpp"

#include <nlohmann/json.hpp>

#include "tokenizer_support.hpp"

/// Ids are those of the Python package tokenizers 0.23 for the same files and texts.
namespace llama::test {
namespace {

const Json kText = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
const Json kByteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", true}};

Json special(const char* name) { return {{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; }

Json template_of(const std::vector<Json>& single) {
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"special_tokens", {{"<s>", {{"ids", {0}}}}, {"ab", {{"ids", {65, 66}}}}}}};
}

Json steps_in_turn(const std::vector<Json>& steps) {
  return {{"type", "Sequence"}, {"processors", steps}};
}

Tokenizer with_post_processor(const Json& post_processor) {
  Json json = bundled_json();
  json["post_processor"] = post_processor;
  return tokenizer(json);
}

Ids the(const Json& post_processor) {
  return with_post_processor(post_processor).encode_with_special_tokens("The");
}

TEST_CASE("post-processor: the bundled model's text begins with <|endoftext|>") {
  REQUIRE(bundled_tokenizer().encode_with_special_tokens("The") == Ids{0, 550});
  REQUIRE(bundled_tokenizer().encode_with_special_tokens("") == Ids{0});
  REQUIRE(bundled_tokenizer().encode("The") == Ids{550});
}

TEST_CASE("post-processor: templates put tokens before and after a text") {
  REQUIRE(the(template_of({special("<s>"), kText})) == Ids{0, 550});
  REQUIRE(the(template_of({kText, special("ab")})) == Ids{550, 65, 66});
  REQUIRE(the(template_of({special("ab"), kText, special("<s>")})) == Ids{65, 66, 550, 0});
  REQUIRE(the(template_of({kText})) == Ids{550});
}

TEST_CASE("post-processor: the other kinds") {
  REQUIRE(the(nullptr) == Ids{550});
  REQUIRE(the(kByteLevel) == Ids{550});
  REQUIRE(the(steps_in_turn({})) == Ids{550});
  REQUIRE(the(steps_in_turn({kByteLevel, template_of({special("<s>"), kText})})) == Ids{0, 550});
  for (const char* type : {"BertProcessing", "RobertaProcessing"}) {
    REQUIRE(the({{"type", type}, {"cls", {"q", 81}}, {"sep", {"z", 90}}}) == Ids{81, 550, 90});
  }
}

TEST_CASE("post-processor: what is refused") {
  const auto refused = [](ErrorCode code, const Json& json, const std::string& words) {
    require_error(code, words, [&] { with_post_processor(json); });
  };
  constexpr auto kUnsupported = ErrorCode::kUnsupportedTokenizer;
  refused(kUnsupported, {{"type", "Other"}}, "post_processor: type is \"Other\"; this engine has");
  refused(kUnsupported, template_of({kText, kText}), "this engine has templates with one text, A");
  refused(kUnsupported, template_of({{{"Sequence", {{"id", "B"}}}}}), "templates with one text, A");
  const Json begin = template_of({special("<s>"), kText});
  refused(kUnsupported, steps_in_turn({begin, begin}),
          "step 1: type is \"TemplateProcessing\", after a step that adds tokens");

  constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;
  refused(kMalformed, template_of({special("<s>")}), "expected a template with the text, A");
  refused(kMalformed, template_of({special("</s>"), kText}), "special_tokens: </s> is missing");
  refused(kMalformed, {{"type", "TemplateProcessing"}}, "single is missing");
  refused(kMalformed, {{"type", "BertProcessing"}, {"cls", 1}}, "cls is 1; expected a token and");
  refused(kMalformed, {{"type", "BertProcessing"}, {"cls", {"q", "q"}}}, "cls: id is \"q\"");
  refused(kMalformed, {{"type", "Sequence"}, {"processors", 1}}, "processors is 1");
  refused(kMalformed, {{"type", "BertProcessing"}, {"cls", {"q", 1}}, {"sep", {"z", 4096}}},
          "post_processor has token 4096; the largest id is 4095");
}

TEST_CASE("post-processor: keys of tokenizer_config.json that say otherwise are noted") {
  const TemporaryFolder folder;
  const PostProcessor& begins = bundled_tokenizer().post_processor();
  const auto notes = [&](const std::string& tokenizer_config) {
    folder.write("tokenizer_config.json", tokenizer_config);
    return ignored_keys(folder.path(), begins);
  };
  REQUIRE(ignored_keys(folder.path(), begins).empty());
  REQUIRE(notes("{}").empty());
  REQUIRE(notes(R"({"add_bos_token": true, "add_eos_token": false})").empty());
  const auto both = notes(R"({"add_bos_token": false, "add_eos_token": true})");
  REQUIRE(both.size() == 2);
  const std::string where = (folder.path() / "tokenizer_config.json").string();
  CHECK(both[0] == where +
                       ": add_bos_token is false and has no effect: tokenizer.json's "
                       "post_processor decides, and it adds a token before a text");
  CHECK(both[1] == where +
                       ": add_eos_token is true and has no effect: tokenizer.json's "
                       "post_processor decides, and it adds no token after a text");
  require_error(ErrorCode::kMalformedTokenizer, "tokenizer_config.json is not valid JSON",
                [&] { notes("{"); });
}

}  // namespace
}  // namespace llama::test
