#include "reference.hpp"

#include <fmt/format.h>

#include "json_file.hpp"

namespace llama {

Reference load_reference(const std::filesystem::path& path) {
  constexpr auto kMalformed = ErrorCode::kMalformedReference;
  const Json json = parse_object(read_file(path), path.string(), kMalformed);
  const Fields fields(json, path.string(), kMalformed);
  const Fields dense = fields.object("dense_float32_4096");
  const Fields recall = fields.object("passkey_8192");
  Reference reference;
  reference.haystack_tokens = fields.positive_integer("haystack_tokens");
  reference.recall_context = recall.positive_integer("tokens");
  reference.recall_codes = recall.positive_integer("whole_codes_right");
  try {
    reference.haystack_ids = fields.at("haystack_ids_first_4097").get<std::vector<TokenId>>();
    reference.nll_per_512 = dense.at("mean_nll_per_512").get<std::vector<double>>();
    reference.passkey_words = fields.at("passkey_words").get<std::vector<std::string>>();
    reference.passkey_codes = fields.at("passkey_codes").get<std::vector<std::string>>();
    for (const auto& [position, logits] : dense.object("top5").json().items()) {
      reference.top_logits[std::stoll(position)] =
          logits.get<std::vector<std::pair<TokenId, double>>>();
    }
  } catch (const std::exception& error) {  // nlohmann's type errors and stoll's
    throw Error(kMalformed, fmt::format("{}: {}", path.string(), error.what()));
  }
  if (reference.passkey_words.empty() ||
      reference.passkey_words.size() != reference.passkey_codes.size()) {
    fields.reject("passkey_codes", "one code for each of passkey_words");
  }
  return reference;
}

}  // namespace llama
