#include "special_tokens.hpp"

#include "model_folder.hpp"
#include "warning.hpp"

namespace llama::test {
namespace {

using Ids = std::vector<TokenId>;

struct Stops {
  Ids ids;
  std::vector<std::string> warnings;
};

/// Of a model whose config.json names token 0, with this generation_config.json.
Stops stops_of(const std::string& generation_config) {
  const TemporaryFolder folder;
  folder.write("generation_config.json", generation_config);
  LlamaConfig config;
  config.vocab_size = 4096;
  config.eos_tokens = {0};
  const CollectedWarnings warnings;
  const Ids ids = stop_tokens(folder.path(), config);
  return {ids, warnings.messages()};
}

TEST_CASE("stop tokens: generation_config.json comes before config.json") {
  const auto stops = [](const Json& eos) {
    const auto [ids, warnings] = stops_of(Json{{"eos_token_id", eos}}.dump());
    CHECK(warnings.empty());
    return ids;
  };
  CHECK(stops(7) == Ids{7});
  CHECK(stops({7, 9}) == Ids{7, 9});

  LlamaConfig config;
  config.eos_tokens = {5};
  const TemporaryFolder folder;
  CHECK(stop_tokens(folder.path(), config) == Ids{5});
}

TEST_CASE("stop tokens: a generation_config.json without any leaves none, with a warning") {
  for (const char* text : {"{}", R"({"eos_token_id":null})", R"({"eos_token_id":[]})"}) {
    const auto [ids, warnings] = stops_of(text);
    CHECK(ids.empty());
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find("no token ends generation") != std::string::npos);
  }
}

TEST_CASE("stop tokens: ids outside of the vocabulary are left out, with a warning") {
  const auto [ids, warnings] = stops_of(R"({"eos_token_id":[-1,7,4096]})");
  CHECK(ids == Ids{7});
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].find("token -1 is not used") != std::string::npos);
}

TEST_CASE("stop tokens: settings that are not applied are warned of") {
  const auto [ids, warnings] = stops_of(
      R"({"eos_token_id":7,"bos_token_id":1,"do_sample":true,"temperature":0.6,"top_k":null,
          "transformers_version":"5.0"})");
  CHECK(ids == Ids{7});
  REQUIRE(warnings.size() == 1);
  CHECK(
      warnings[0].find("generation_config.json sets do_sample = true, temperature = 0.6, which") !=
      std::string::npos);
}

TEST_CASE("stop tokens: a malformed generation_config.json is refused") {
  const auto refused = [](const std::string& text, const std::string& words) {
    require_error(ErrorCode::kMalformedModelConfig, words, [&] { stops_of(text); });
  };
  refused("", "generation_config.json is not valid JSON");
  refused("[]", "expected an object");
  for (const char* eos : {"\"x\"", "7.0", "true", "[[7]]", "{}"}) {
    refused(std::string("{\"eos_token_id\":") + eos + "}", "expected a token id or a list of them");
  }
}

}  // namespace
}  // namespace llama::test
