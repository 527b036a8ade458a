#include "llama_config.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "json_file.hpp"
#include "support.hpp"

namespace llama::test {
namespace {

Json bundled_config() { return Json::parse(read_file(kModelFolder / "config.json")); }

LlamaConfig load(const Json& json) {
  const TemporaryFolder folder;
  return load_llama_config(folder.write("config.json", json.dump()));
}

/// The bundled config.json with one field changed; null removes it.
Json with(const char* key, const Json& value) {
  Json json = bundled_config();
  json[key] = value;
  return json;
}

TEST_CASE("config: the bundled model's") {
  const LlamaConfig config = load(bundled_config());
  REQUIRE(config.num_layers == 6);
  REQUIRE(config.num_q_heads == 8);
  REQUIRE(config.num_kv_heads == 2);
  REQUIRE(config.head_dim == 128);
  REQUIRE(config.rope_theta == 500000.0);
  REQUIRE(config.tie_word_embeddings);
  REQUIRE(config.bos_token == 0);
  REQUIRE(config.eos_tokens == std::vector<TokenId>{0});
}

TEST_CASE("config: defaults and variants of Hugging Face folders") {
  REQUIRE(load(with("num_key_value_heads", nullptr)).num_kv_heads == 8);
  REQUIRE(load(with("head_dim", nullptr)).head_dim == 384 / 8);
  REQUIRE(load(with("rope_theta", nullptr)).rope_theta == 10000.0);
  REQUIRE(load(with("eos_token_id", {1, 2})).eos_tokens == std::vector<TokenId>{1, 2});
  REQUIRE_FALSE(load(with("bos_token_id", nullptr)).bos_token);
  Json merged = with("rope_theta", nullptr);
  merged["rope_parameters"] = {{"rope_theta", 1e6}, {"rope_type", "default"}};
  REQUIRE(load(merged).rope_theta == 1e6);
}

TEST_CASE("config: what this engine does not compute is refused") {
  constexpr auto kUnsupported = ErrorCode::kUnsupportedModel;
  const auto refused = [](ErrorCode code, const char* key, const Json& value,
                          const std::string& words) {
    require_error(code, words, [&] { load(with(key, value)); });
  };
  refused(kUnsupported, "model_type", "gpt2", "model_type is \"gpt2\"");
  refused(kUnsupported, "hidden_act", "gelu", "hidden_act is \"gelu\"");
  refused(kUnsupported, "attention_bias", true, "attention_bias is true");
  refused(kUnsupported, "mlp_bias", true, "mlp_bias is true");
  refused(ErrorCode::kUnsupportedRopeScaling, "rope_scaling",
          {{"rope_type", "yarn"}, {"factor", 4.0}}, "rope_type is \"yarn\"");
  refused(ErrorCode::kUnsupportedRopeScaling, "rope_scaling", {{"type", "linear"}, {"factor", 2.0}},
          "rope_type is \"linear\"");
  refused(ErrorCode::kUnsupportedRopeScaling, "rope_parameters",
          {{"rope_theta", 1e4}, {"rope_type", "dynamic"}}, "rope_type is \"dynamic\"");
}

TEST_CASE("config: malformed files are refused, with file and field") {
  constexpr auto kMalformed = ErrorCode::kMalformedModelConfig;
  const TemporaryFolder folder;
  require_error(ErrorCode::kCannotReadFile, "nowhere.json",
                [&] { load_llama_config(folder.path() / "nowhere.json"); });
  require_error(ErrorCode::kCannotReadFile, folder.path().string(),
                [&] { load_llama_config(folder.path()); });
  require_error(kMalformed, "not valid JSON",
                [&] { load_llama_config(folder.write("config.json", "{")); });
  const auto refused = [](const char* key, const Json& value, const std::string& words) {
    require_error(kMalformed, words, [&] { load(with(key, value)); });
  };
  refused("vocab_size", nullptr, "vocab_size is missing");
  refused("hidden_size", -1, "hidden_size is -1; expected an integer from 1");
  refused("num_hidden_layers", 1.5, "num_hidden_layers is 1.5");
  refused("num_key_value_heads", 3, "num_key_value_heads is 3; expected a divisor");
  refused("head_dim", 7, "head_dim is 7; expected an even number");
  refused("rope_theta", "big", "rope_theta is \"big\"");
  refused("rms_norm_eps", 0, "rms_norm_eps is 0; expected a positive number");
  refused("tie_word_embeddings", 1, "expected true or false");
  refused("bos_token_id", 4096, "bos_token_id is 4096");
  refused("eos_token_id", {0, "x"}, "eos_token_id is");
  refused("rope_scaling", {{"rope_type", "llama3"}}, "factor is missing");
  refused("rope_scaling", "yarn", "rope_scaling is \"yarn\"; expected an object");
}

TEST_CASE("config: llama3 rope scaling keeps high frequencies, divides low ones, blends between") {
  LlamaConfig config = load(bundled_config());
  const std::vector<float> plain = rope_frequencies(config);
  REQUIRE(plain[0] == 1.f);
  REQUIRE(plain[32] == Catch::Approx(std::pow(500000.0, -0.5)));

  config = load(with("rope_scaling", {{"rope_type", "llama3"},
                                      {"factor", 8.0},
                                      {"low_freq_factor", 1.0},
                                      {"high_freq_factor", 4.0},
                                      {"original_max_position_embeddings", 8192}}));
  const std::vector<float> scaled = rope_frequencies(config);
  int blended = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const double wavelength = 2 * 3.14159265358979 / plain[i];
    if (wavelength < 8192 / 4.0) {
      REQUIRE(scaled[i] == plain[i]);
    } else if (wavelength > 8192 / 1.0) {
      REQUIRE(scaled[i] == Catch::Approx(plain[i] / 8));
    } else {
      ++blended;
      const double smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0);
      REQUIRE(scaled[i] == Catch::Approx((1 - smooth) * plain[i] / 8 + smooth * plain[i]));
    }
  }
  REQUIRE(blended > 0);
}

}  // namespace
}  // namespace llama::test
