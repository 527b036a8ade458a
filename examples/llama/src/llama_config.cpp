#include "llama_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "json_file.hpp"

namespace llama {
namespace {

void require(bool condition, ErrorCode code, const std::string& message) {
  if (!condition) throw Error(code, message);
}

void read_rope(const Fields& fields, LlamaConfig& config) {
  // Transformers 5 moved rope_theta and rope_scaling together into rope_parameters.
  const bool merged = fields.find("rope_parameters") != nullptr;
  const Fields& owner = merged ? fields.object("rope_parameters") : fields;
  config.rope_theta = owner.positive_number("rope_theta", 10000.0);
  if (!merged && !fields.find("rope_scaling")) return;

  const Fields scaling = merged ? owner : fields.object("rope_scaling");
  const std::string type =
      scaling.find("rope_type") ? scaling.string("rope_type") : scaling.string("type", "default");
  if (type == "default") return;
  require(type == "llama3", ErrorCode::kUnsupportedRopeScaling,
          fmt::format("{}: rope_type is \"{}\"; this engine implements \"default\" and \"llama3\"",
                      scaling.where(), type));
  config.rope_scaling = {scaling.positive_number("factor"),
                         scaling.positive_number("low_freq_factor"),
                         scaling.positive_number("high_freq_factor"),
                         scaling.positive_number("original_max_position_embeddings")};
  if (config.rope_scaling->high_freq_factor <= config.rope_scaling->low_freq_factor) {
    scaling.reject("high_freq_factor", "more than low_freq_factor");
  }
}

TokenId read_token(const Fields& fields, const char* key, const Json& value,
                   const LlamaConfig& config) {
  if (!value.is_number_integer() || value < 0 || value >= config.vocab_size) {
    fields.reject(key, "token ids below vocab_size");
  }
  return value.get<TokenId>();
}

void read_special_tokens(const Fields& fields, LlamaConfig& config) {
  if (const Json* bos = fields.find("bos_token_id")) {
    config.bos_token = read_token(fields, "bos_token_id", *bos, config);
  }
  const Json* eos = fields.find("eos_token_id");
  if (!eos) return;
  if (!eos->is_array()) {
    config.eos_tokens = {read_token(fields, "eos_token_id", *eos, config)};
    return;
  }
  for (const Json& token : *eos) {
    config.eos_tokens.push_back(read_token(fields, "eos_token_id", token, config));
  }
}

}  // namespace

LlamaConfig load_llama_config(const std::filesystem::path& path) {
  const std::string where = path.string();
  constexpr auto kMalformed = ErrorCode::kMalformedModelConfig;
  const Json json = parse_object(read_file(path), where, kMalformed);
  const Fields fields(json, where, kMalformed);

  const std::string model_type = fields.string("model_type");
  require(model_type == "llama", ErrorCode::kUnsupportedModel,
          fmt::format("{}: model_type is \"{}\"; this engine runs \"llama\"", where, model_type));
  const std::string activation = fields.string("hidden_act", "silu");
  require(activation == "silu", ErrorCode::kUnsupportedModel,
          fmt::format("{}: hidden_act is \"{}\"; this engine has \"silu\"", where, activation));
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    require(!fields.boolean(bias, false), ErrorCode::kUnsupportedModel,
            fmt::format("{}: {} is true; this engine has no biases", where, bias));
  }

  LlamaConfig config;
  config.vocab_size = fields.positive_integer("vocab_size");
  config.hidden_size = fields.positive_integer("hidden_size");
  config.num_layers = fields.positive_integer("num_hidden_layers");
  config.num_q_heads = fields.positive_integer("num_attention_heads");
  config.num_kv_heads = fields.positive_integer("num_key_value_heads", config.num_q_heads);
  config.intermediate_size = fields.positive_integer("intermediate_size");
  config.rms_norm_eps = static_cast<float>(fields.positive_number("rms_norm_eps"));
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
  if (config.num_q_heads % config.num_kv_heads != 0) {
    fields.reject("num_key_value_heads", "a divisor of num_attention_heads");
  }
  if (!fields.find("head_dim") && config.hidden_size % config.num_q_heads != 0) {
    fields.reject("hidden_size", "a multiple of num_attention_heads, or head_dim beside it");
  }
  config.head_dim = fields.positive_integer("head_dim", config.hidden_size / config.num_q_heads);
  if (config.head_dim % 2 != 0) fields.reject("head_dim", "an even number");
  read_rope(fields, config);
  read_special_tokens(fields, config);
  return config;
}

std::vector<float> rope_frequencies(const LlamaConfig& config) {
  std::vector<float> frequencies(config.head_dim / 2);
  for (std::int64_t i = 0; i < config.head_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(config.head_dim);
    double frequency = 1.0 / std::pow(config.rope_theta, exponent);
    if (const auto& scaling = config.rope_scaling) {
      // How often the pair turns around within the original context decides what becomes of it.
      const double turns =
          scaling->original_max_position_embeddings * frequency / (2 * std::numbers::pi);
      const double kept = std::clamp((turns - scaling->low_freq_factor) /
                                         (scaling->high_freq_factor - scaling->low_freq_factor),
                                     0.0, 1.0);
      frequency *= kept + (1.0 - kept) / scaling->factor;
    }
    frequencies[i] = static_cast<float>(frequency);
  }
  return frequencies;
}

}  // namespace llama
