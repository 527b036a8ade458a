#include "llama_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "json_file.hpp"
#include "special_tokens.hpp"
#include "warning.hpp"

namespace llama {
namespace {

[[noreturn]] void unsupported(const Fields& fields, const char* key, std::string_view accepted) {
  throw Error(ErrorCode::kUnsupportedModel,
              fmt::format("{}: {} is {}; this engine runs {}", fields.where(), key,
                          short_text(fields.at(key)), accepted));
}

/// Fields that Transformers obeys, and the only value other than null under which this engine
/// computes the same.
void check_unsupported(const Fields& fields) {
  struct Only {
    const char* key;
    Json value;
    const char* accepted;
  };
  static const Only kOnly[] = {
      {"attention_bias", false, "projections without biases, false"},
      {"mlp_bias", false, "projections without biases, false"},
      {"is_causal", true, "causal attention, true"},
      {"quantization_config", nullptr, "weights as they are, without it"},
      {"per_layer_config", nullptr, "layers that are all alike, without it"},
      {"transformers_weights", nullptr, "model.safetensors or what its index names, without it"},
      {"configuration_files", nullptr, "what this file says, without it"},
  };
  for (const Only& only : kOnly) {
    const Json* value = fields.find(only.key);
    if (value && *value != only.value) unsupported(fields, only.key, only.accepted);
  }
}

void check_architecture(const Fields& fields) {
  if (fields.string("model_type") != "llama") unsupported(fields, "model_type", "\"llama\"");
  const std::string activation = fields.string("hidden_act", "silu");
  // The same function by two names.
  if (activation != "silu" && activation != "swish") unsupported(fields, "hidden_act", "\"silu\"");
  check_unsupported(fields);

  const Json* architectures = fields.find("architectures");
  const Json kLlama = "LlamaForCausalLM";
  if (architectures &&
      std::find(architectures->begin(), architectures->end(), kLlama) == architectures->end()) {
    warn(fmt::format("{}: architectures is {}; the model is run as \"LlamaForCausalLM\"",
                     fields.where(), short_text(*architectures)));
  }
}

/// Transformers' KV cache forgets what lies outside of these windows, unless layer_types says that
/// every layer sees everything.
void check_windows(const Fields& fields, const LlamaConfig& config) {
  if (const Json* types = fields.find("layer_types")) {
    const Json full(config.num_layers, Json("full_attention"));
    if (*types != full) {
      unsupported(fields, "layer_types", "\"full_attention\" in each of num_hidden_layers layers");
    }
    return;
  }
  for (const char* key : {"sliding_window", "attention_chunk_size"}) {
    if (fields.find(key) && fields.positive_integer(key) < config.max_position_embeddings) {
      unsupported(fields, key, "full attention, null or at least max_position_embeddings");
    }
  }
}

void read_sizes(const Fields& fields, LlamaConfig& config) {
  const auto read = [&](const char* key, std::int64_t& size) {
    size = fields.positive_integer(key, size);
  };
  read("vocab_size", config.vocab_size);
  read("hidden_size", config.hidden_size);
  read("num_hidden_layers", config.num_layers);
  read("num_attention_heads", config.num_q_heads);
  read("intermediate_size", config.intermediate_size);
  read("max_position_embeddings", config.max_position_embeddings);
  config.num_kv_heads = fields.positive_integer("num_key_value_heads", config.num_q_heads);
  if (config.num_q_heads % config.num_kv_heads != 0) {
    fields.reject("num_key_value_heads", "a divisor of num_attention_heads");
  }
  if (!fields.find("head_dim") && config.hidden_size % config.num_q_heads != 0) {
    fields.reject("hidden_size", "a multiple of num_attention_heads, or head_dim beside it");
  }
  config.head_dim = fields.positive_integer("head_dim", config.hidden_size / config.num_q_heads);
  if (config.head_dim % 2 != 0) fields.reject("head_dim", "an even number");
}

}  // namespace

LlamaConfig load_llama_config(const std::filesystem::path& path) {
  const std::string where = path.string();
  constexpr auto kMalformed = ErrorCode::kMalformedModelConfig;
  const Json json = parse_object(read_file(path), where, kMalformed);
  const Fields fields(json, where, kMalformed);
  // Elsewhere null means that a key is absent; Transformers refuses it for these.
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                          "intermediate_size", "max_position_embeddings", "rms_norm_eps",
                          "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias"}) {
    if (fields.has(key) && !fields.find(key)) fields.reject(key, "a value, or no such key");
  }
  check_architecture(fields);

  LlamaConfig config;
  read_sizes(fields, config);
  check_windows(fields, config);
  const double eps = fields.positive_number("rms_norm_eps", config.rms_norm_eps);
  using Float = std::numeric_limits<float>;
  if (eps < Float::min() || eps > Float::max()) {
    fields.reject("rms_norm_eps", "a positive number that float32 holds");
  }
  config.rms_norm_eps = static_cast<float>(eps);
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings", config.tie_word_embeddings);
  config.rope = read_rope(fields, config.max_position_embeddings);
  config.eos_tokens = token_ids(fields, "eos_token_id", config.vocab_size);
  return config;
}

}  // namespace llama
