#include "tokenizer_support.hpp"

#include <map>

#include "json_file.hpp"

namespace llama::test {

Json bundled_json() { return Json::parse(read_file(kModelFolder / "tokenizer.json")); }

Tokenizer tokenizer(const Json& json) {
  const TemporaryFolder folder;
  return Tokenizer(folder.write("tokenizer.json", json.dump()));
}

Ids encode(const Json& json, const std::string& text) { return tokenizer(json).encode(text); }

Json with_added(Json json, const std::vector<NewToken>& tokens) {
  std::map<std::string, TokenId> ids = json["model"]["vocab"];
  for (const NewToken& token : tokens) {
    const auto id = ids.emplace(token.content, static_cast<TokenId>(ids.size())).first->second;
    Json added = {{"id", id}, {"content", token.content}, {"special", false}};
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) {
      added[flag] = token.flags.find(flag) != std::string::npos;
    }
    json["added_tokens"].push_back(added);
  }
  return json;
}

Json without_entries(Json json, const std::vector<std::string>& entries) {
  Json& vocab = json["model"]["vocab"];
  for (const std::string& entry : entries) {
    vocab["unused " + entry] = vocab[entry];
    vocab.erase(entry);
    Json kept = Json::array();
    for (const Json& merge : json["model"]["merges"]) {
      const std::string merged = merge[0].get<std::string>() + merge[1].get<std::string>();
      if (merged.find(entry) == std::string::npos) kept.push_back(merge);
    }
    json["model"]["merges"] = kept;
  }
  return json;
}

}  // namespace llama::test
