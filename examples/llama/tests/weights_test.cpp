#include "weights.hpp"

#include "model_folder.hpp"
#include "warning.hpp"

namespace llama::test {
namespace {

constexpr auto kEmbedding = "model.embed_tokens.weight";
constexpr auto kOutput = "lm_head.weight";
constexpr auto kSingle = "model.safetensors";

/// The likelihood, and one warning with these words; none if there are no words.
double nll_with_warning(const ModelFolder& folder, const std::string& words) {
  const CollectedWarnings warnings;
  const double nll = nll_of(folder.path());
  CAPTURE(warnings.messages());
  REQUIRE(warnings.messages().size() == (words.empty() ? 0 : 1));
  if (!words.empty()) REQUIRE(warnings.messages()[0].find(words) != std::string::npos);
  return nll;
}

TEST_CASE("weights: an output beside a tied embedding counts where it differs") {
  const ModelFolder untied(Json{{"tie_word_embeddings", false}});
  const ModelFolder tied;
  for (const ModelFolder* folder : {&untied, &tied}) {
    folder->overlay("head.safetensors", {{kOutput, scaled_tensor(kEmbedding, -1)}});
  }
  const double nll = nll_with_warning(untied, "");
  CHECK(nll > bundled_nll() + 0.1);
  CHECK(nll_with_warning(tied, "lm_head.weight differs from model.embed_tokens.weight") == nll);

  tied.overlay("head.safetensors", {{kOutput, scaled_tensor(kEmbedding, 0)}});
  CHECK(nll_with_warning(tied, "") == bundled_nll());
}

TEST_CASE("weights: a tied weight may have either name") {
  StoredTensors tensors = bundled_tensors();
  tensors[kOutput] = tensors.at(kEmbedding);
  tensors.erase(kEmbedding);
  const ModelFolder tied;
  tied.remove("model.safetensors.index.json");
  tied.write(kSingle, safetensors_file(tensors));
  CHECK(nll_with_warning(tied, "") == bundled_nll());

  const ModelFolder untied(Json{{"tie_word_embeddings", false}});
  require_error(ErrorCode::kMissingTensor, "tensor lm_head.weight, and tie_word_embeddings",
                [&] { nll_of(untied.path()); });
  untied.remove("model.safetensors.index.json");
  untied.write(kSingle, safetensors_file(tensors));
  require_error(ErrorCode::kMissingTensor, kEmbedding, [&] { nll_of(untied.path()); });
}

TEST_CASE("weights: an output of another shape is refused, tied or not") {
  const ModelFolder folder;
  StoredTensor output = scaled_tensor(kEmbedding, 0);
  output.shape[0] /= 2;
  output.bytes.resize(output.bytes.size() / 2);
  folder.overlay("head.safetensors", {{kOutput, output}});
  require_error(ErrorCode::kWrongTensorShape, "lm_head.weight has shape [2048, 384]",
                [&] { nll_of(folder.path()); });
}

TEST_CASE("weights: the names of a model without output are read too") {
  StoredTensors tensors;
  for (const auto& [name, tensor] : bundled_tensors()) {
    tensors[name.substr(std::string("model.").size())] = tensor;
  }
  const ModelFolder folder;
  folder.remove("model.safetensors.index.json");
  folder.write(kSingle, safetensors_file(tensors));
  CHECK(nll_with_warning(folder, "") == bundled_nll());
}

TEST_CASE("weights: tensors that the configuration does not ask for are warned of") {
  const ModelFolder bias;
  const auto name = "model.layers.0.self_attn.q_proj.bias";
  bias.overlay("more.safetensors", {{name, {"F32", {1024}, std::string(4096, 'x')}}});
  CHECK(nll_with_warning(bias, std::string("1 tensors of the checkpoint are not used: ") + name) ==
        bundled_nll());

  const ModelFolder shallow(Json{{"num_hidden_layers", 5}});
  CHECK(nll_with_warning(shallow, "9 tensors of the checkpoint are not used: model.layers.5") >
        bundled_nll());

  const ModelFolder old;
  old.overlay("more.safetensors", {{"model.layers.0.self_attn.rotary_emb.inv_freq",
                                    {"F32", {64}, std::string(256, 'x')}}});
  CHECK(nll_with_warning(old, "") == bundled_nll());
}

TEST_CASE("weights: a type that cannot be read is refused where it is used, and only there") {
  const ModelFolder folder;
  folder.overlay("more.safetensors", {{"extra", {"F8_E4M3", {3}, "xyz"}}});
  CHECK(nll_with_warning(folder, "are not used: extra") == bundled_nll());

  folder.overlay("more.safetensors",
                 {{"model.norm.weight", {"F8_E4M3", {384}, std::string(384, 'x')}}});
  require_error(ErrorCode::kUnsupportedTensorType, "tensor model.norm.weight is F8_E4M3",
                [&] { nll_of(folder.path()); });
}

TEST_CASE("weights: a model that lacks a shard is refused") {
  const TemporaryFolder folder;
  std::filesystem::copy(kModelFolder / "model-1-of-2.safetensors", folder.path());
  require_error(ErrorCode::kMissingTensor, "no shard",
                [&] { (void)load_weights(folder.path(), bundled_model().config(), cpu()); });
}

}  // namespace
}  // namespace llama::test
