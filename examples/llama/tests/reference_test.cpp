#include "reference.hpp"

#include "support.hpp"
#include "verify.hpp"

namespace llama::test {
namespace {

TEST_CASE("reference: token ids, likelihoods, logits and codes of the bundled model") {
  const auto checks = verify(bundled_model(), bundled_tokenizer(), kDataFolder);
  REQUIRE(checks.size() == 3 + 8 + 5 + 1);
  for (const Check& check : checks) {
    CAPTURE(check.name, check.detail);
    CHECK(check.passed);
  }
}

TEST_CASE("reference: malformed figures are refused") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& content) {
    const auto path = folder.write("reference.json", content);
    require_error(ErrorCode::kMalformedReference, path.string(), [&] { load_reference(path); });
  };
  refused("nothing");
  refused("{}");
  refused(R"({"haystack_tokens":1,"haystack_ids_first_4097":["a"],"passkey_words":[],
              "passkey_codes":[],"passkey_8192":{"tokens":1,"whole_codes_right":1},
              "dense_float32_4096":{"mean_nll_per_512":[],"top5":{}}})");
  refused(R"({"haystack_tokens":1,"haystack_ids_first_4097":[1],"passkey_words":["a"],
              "passkey_codes":[],"passkey_8192":{"tokens":1,"whole_codes_right":1},
              "dense_float32_4096":{"mean_nll_per_512":[],"top5":{}}})");
}

}  // namespace
}  // namespace llama::test
