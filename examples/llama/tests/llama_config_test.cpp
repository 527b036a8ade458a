#include "llama_config.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "json_file.hpp"
#include "model_folder.hpp"
#include "warning.hpp"

namespace llama::test {
namespace {

LlamaConfig load(const Json& json) {
  const TemporaryFolder folder;
  return load_llama_config(folder.write("config.json", json.dump()));
}

/// The bundled config.json with one field changed or "absent".
Json with(const char* key, const Json& value) { return changed_config({{key, value}}); }

TEST_CASE("config: the bundled model's") {
  const CollectedWarnings warnings;
  const LlamaConfig config = load_llama_config(kModelFolder / "config.json");
  REQUIRE(config.num_layers == 6);
  REQUIRE(config.num_q_heads == 8);
  REQUIRE(config.num_kv_heads == 2);
  REQUIRE(config.head_dim == 128);
  REQUIRE(config.rope.theta == 500000.0);
  REQUIRE_FALSE(config.rope.scaling);
  REQUIRE(config.tie_word_embeddings);
  REQUIRE(config.eos_tokens == std::vector<TokenId>{0});
  REQUIRE(warnings.messages().empty());
}

TEST_CASE("config: absent keys mean what they mean to Transformers") {
  const LlamaConfig config = load({{"model_type", "llama"}});
  CHECK(config.vocab_size == 32000);
  CHECK(config.hidden_size == 4096);
  CHECK(config.intermediate_size == 11008);
  CHECK(config.num_layers == 32);
  CHECK(config.num_q_heads == 32);
  CHECK(config.num_kv_heads == 32);
  CHECK(config.head_dim == 128);
  CHECK(config.max_position_embeddings == 2048);
  CHECK(config.rms_norm_eps == 1e-6f);
  CHECK(config.rope.theta == 10000.0);
  CHECK_FALSE(config.tie_word_embeddings);
  CHECK(config.eos_tokens.empty());
  for (const Json& absent : {Json("absent"), Json()}) {
    CHECK(load(with("num_key_value_heads", absent)).num_kv_heads == 8);
    CHECK(load(with("head_dim", absent)).head_dim == 384 / 8);
    CHECK(load(with("eos_token_id", absent)).eos_tokens.empty());
  }
}

TEST_CASE("config: what does not change the result is accepted") {
  const std::pair<const char*, Json> kNeutral[] = {{"hidden_act", "swish"},
                                                   {"pretraining_tp", 2},
                                                   {"attention_dropout", 0.1},
                                                   {"use_cache", false},
                                                   {"dtype", "float16"},
                                                   {"is_causal", true},
                                                   {"quantization_config", nullptr},
                                                   {"sliding_window", nullptr},
                                                   {"sliding_window", 131072},
                                                   {"layer_types", Json(6, "full_attention")},
                                                   {"no_such_key", {1, 2}}};
  for (const auto& [key, value] : kNeutral) {
    CAPTURE(key, value);
    const CollectedWarnings warnings;
    CHECK(load(with(key, value)).num_layers == 6);
    CHECK(warnings.messages().empty());
  }
  // Windows of layers that layer_types says are not there.
  const Json full(6, "full_attention");
  CHECK(load(changed_config({{"sliding_window", 64}, {"layer_types", full}})).num_layers == 6);
}

TEST_CASE("config: what this engine does not compute is refused") {
  const auto refused = [](const char* key, const Json& value, const std::string& words) {
    require_error(ErrorCode::kUnsupportedModel, words, [&] { load(with(key, value)); });
  };
  refused("model_type", "gpt2", "model_type is \"gpt2\"");
  refused("hidden_act", "gelu", "hidden_act is \"gelu\"");
  refused("attention_bias", true, "attention_bias is true");
  refused("mlp_bias", true, "mlp_bias is true");
  refused("is_causal", false, "is_causal is false");
  refused("sliding_window", 4096, "sliding_window is 4096");
  refused("attention_chunk_size", 4096, "attention_chunk_size is 4096");
  refused("layer_types", Json(6, "sliding_attention"), "layer_types is [\"sliding_attention\"");
  refused("layer_types", Json(5, "full_attention"), "each of num_hidden_layers layers");
  refused("quantization_config", {{"quant_method", "fp8"}},
          "quantization_config is {\"quant_method");
  refused("per_layer_config", {{"0", {{"num_attention_heads", 4}}}}, "per_layer_config is");
  refused("transformers_weights", "other.safetensors", "transformers_weights is \"other");
  refused("configuration_files", {"config.4.0.0.json"}, "configuration_files is");
  require_error(ErrorCode::kUnsupportedRopeScaling, "rope_type is \"yarn\"", [&] {
    load(with("rope_scaling", {{"rope_type", "yarn"}}));
  });
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
  require_error(kMalformed, "not valid JSON",
                [&] { load_llama_config(folder.write("config.json", "")); });
  const auto refused = [](const char* key, const Json& value, const std::string& words) {
    require_error(kMalformed, words, [&] { load(with(key, value)); });
  };
  refused("model_type", "absent", "model_type is missing");
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                          "intermediate_size", "max_position_embeddings", "rms_norm_eps",
                          "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias"}) {
    refused(key, nullptr, std::string(key) + " is null; expected a value, or no such key");
  }
  refused("hidden_size", -1, "hidden_size is -1; expected an integer from 1");
  refused("num_hidden_layers", 1.5, "num_hidden_layers is 1.5");
  refused("num_hidden_layers", true, "num_hidden_layers is true");
  refused("vocab_size", 1e30, "vocab_size is 1e+30");
  refused("vocab_size", std::uint64_t{1} << 63, "vocab_size is 9223372036854775808");
  refused("num_key_value_heads", 3, "num_key_value_heads is 3; expected a divisor");
  refused("head_dim", 7, "head_dim is 7; expected an even number");
  refused("rope_theta", "big", "rope_theta is \"big\"");
  refused("rms_norm_eps", 0, "rms_norm_eps is 0; expected a positive number");
  refused("rms_norm_eps", 1e-50, "rms_norm_eps is 1e-50; expected a positive number that float32");
  refused("rms_norm_eps", 1e300, "rms_norm_eps is 1e+300");
  refused("tie_word_embeddings", 1, "expected true or false");
  refused("sliding_window", 0, "sliding_window is 0; expected an integer from 1");
  refused("eos_token_id", {0, "x"}, "eos_token_id is");
  refused("eos_token_id", 1.0, "eos_token_id is 1.0");
}

TEST_CASE("config: what is decided is warned of") {
  const auto warned = [](const char* key, const Json& value, const std::string& words) {
    const CollectedWarnings warnings;
    const LlamaConfig config = load(with(key, value));
    REQUIRE(warnings.messages().size() == 1);
    CHECK(warnings.messages()[0].find(words) != std::string::npos);
    return config;
  };
  warned("architectures", {"LlamaForSequenceClassification"}, "run as \"LlamaForCausalLM\"");
  // Public folders have such ids, and no model meets them.
  CHECK(warned("eos_token_id", -1, "token -1 is not used").eos_tokens.empty());
  CHECK(warned("eos_token_id", {4096, 7}, "token 4096 is not used").eos_tokens ==
        std::vector<TokenId>{7});
}

TEST_CASE("config: rope_theta beside rope_parameters without it is not lost") {
  const ModelFolder folder(Json{{"rope_parameters", {{"rope_type", "default"}}}});
  CHECK(nll_of(folder.path()) == bundled_nll());
  // Which a wrong value would not leave alone.
  const ModelFolder other(Json{{"rope_theta", "absent"}});
  CHECK(nll_of(other.path()) > bundled_nll() + 0.1);
}

}  // namespace
}  // namespace llama::test
