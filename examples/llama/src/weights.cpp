#include "weights.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string>

#include "checkpoint.hpp"
#include "error.hpp"
#include "warning.hpp"

namespace llama {
namespace {

constexpr auto kOutput = "lm_head.weight";

/// The checkpoint as a source of named parameters, which knows what nothing asked for.
class Parameters {
 public:
  explicit Parameters(const std::filesystem::path& folder)
      : folder_(folder),
        checkpoint_(folder),
        prefix_(checkpoint_.contains("embed_tokens.weight") ? "" : "model.") {}

  [[nodiscard]] bool contains(const std::string& name) const { return checkpoint_.contains(name); }

  std::vector<float> read(const std::string& name, std::span<const std::int64_t> shape) {
    used_.insert(name);
    return checkpoint_.read(name, shape);
  }

  /// The tensor's name in a checkpoint of the language model, or of what is below its output.
  [[nodiscard]] std::string body(const std::string& name) const {
    return prefix_ + name + ".weight";
  }

  void warn_of_unused() const {
    std::vector<std::string> unused;
    for (const std::string& name : checkpoint_.names()) {
      // Old checkpoints store what follows from config.json.
      if (!used_.contains(name) && !name.ends_with("rotary_emb.inv_freq")) unused.push_back(name);
    }
    if (unused.empty()) return;
    constexpr std::size_t kListed = 5;
    const std::span listed = std::span(unused).first(std::min(kListed, unused.size()));
    warn(fmt::format("{}: {} tensors of the checkpoint are not used: {}{}", folder_.string(),
                     unused.size(), fmt::join(listed, ", "),
                     unused.size() > kListed ? ", ..." : ""));
  }

 private:
  std::filesystem::path folder_;
  Checkpoint checkpoint_;
  std::string prefix_;
  std::set<std::string> used_;
};

/// Embedding and output, which the configuration may declare one and the same. Of those that it
/// does, one may be missing, and both may be there: like Transformers, this believes the
/// checkpoint.
void load_ends(Parameters& parameters, const LlamaConfig& config, Backend& backend,
               Weights& weights) {
  const std::array shape{config.vocab_size, config.hidden_size};
  const auto upload = [&](const std::vector<float>& values) {
    return OwnedTensor(backend, backend.activation_type(), shape[0], shape[1], values);
  };
  const std::string input = parameters.body("embed_tokens");
  const bool has_output = parameters.contains(kOutput);
  const bool output_serves =
      config.tie_word_embeddings && has_output && !parameters.contains(input);
  const std::vector<float> embedding = parameters.read(output_serves ? kOutput : input, shape);
  weights.embedding = upload(embedding);
  if (output_serves || (config.tie_word_embeddings && !has_output)) return;

  if (!has_output) {
    throw Error(ErrorCode::kMissingTensor,
                fmt::format("no shard holds tensor {}, and tie_word_embeddings of config.json is "
                            "false; with true the embedding serves as output",
                            kOutput));
  }
  const std::vector<float> output = parameters.read(kOutput, shape);
  if (config.tie_word_embeddings) {
    if (output == embedding) return;
    warn(
        fmt::format("config.json says tie_word_embeddings, but {} differs from {} in the "
                    "checkpoint and is used, as in Transformers; false would say so",
                    kOutput, input));
  }
  weights.separate_output = upload(output);
}

}  // namespace

Weights load_weights(const std::filesystem::path& folder, const LlamaConfig& config,
                     Backend& backend) {
  Parameters parameters(folder);
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    return OwnedTensor(backend, backend.activation_type(), rows, cols,
                       parameters.read(parameters.body(name), std::array{rows, cols}));
  };
  const auto norm = [&](const std::string& name) {
    return OwnedTensor(backend, hip_attn::ElementType::kFloat32, 1, config.hidden_size,
                       parameters.read(parameters.body(name), std::array{config.hidden_size}));
  };

  const std::int64_t hidden = config.hidden_size;
  Weights weights;
  load_ends(parameters, config, backend, weights);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = fmt::format("layers.{}.", i);
    LayerWeights& w = weights.layers.emplace_back();
    w.attention_norm = norm(layer + "input_layernorm");
    w.q = matrix(layer + "self_attn.q_proj", config.q_size(), hidden);
    w.k = matrix(layer + "self_attn.k_proj", config.kv_size(), hidden);
    w.v = matrix(layer + "self_attn.v_proj", config.kv_size(), hidden);
    w.o = matrix(layer + "self_attn.o_proj", hidden, config.q_size());
    w.mlp_norm = norm(layer + "post_attention_layernorm");
    w.gate = matrix(layer + "mlp.gate_proj", config.intermediate_size, hidden);
    w.up = matrix(layer + "mlp.up_proj", config.intermediate_size, hidden);
    w.down = matrix(layer + "mlp.down_proj", hidden, config.intermediate_size);
  }
  weights.final_norm = norm("norm");
  parameters.warn_of_unused();
  return weights;
}

}  // namespace llama
