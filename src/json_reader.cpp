#include "json_reader.hpp"

#include <fmt/ranges.h>

#include <algorithm>

namespace hip_attn::detail {

bool JsonReader::check_object(const JsonNode& node, std::span<const std::string_view> keys,
                              std::span<const InertKey> inert_keys) {
  if (!node.json.is_object()) {
    refuse(StatusCode::kMalformedJson, "{} is {}; an object is accepted",
           node.path.empty() ? "the document" : node.path, shown(node.json));
    return false;
  }
  for (const auto& [key, value] : node.json.items()) {
    if (std::ranges::find(keys, key) != keys.end()) continue;
    const JsonNode member{value, member_path(node.path, key)};
    const auto inert = std::ranges::find(inert_keys, key, &InertKey::name);
    if (inert != inert_keys.end())
      read_inert(*inert, member);
    else
      refuse(StatusCode::kUnknownKey, "{} is not supported; the keys read here are {}", member.path,
             fmt::join(keys, ", "));
  }
  return true;
}

std::vector<JsonNode> JsonReader::elements(const JsonNode& node, const char* accepted) {
  std::vector<JsonNode> nodes;
  if (!node.json.is_array())
    refuse(StatusCode::kMalformedJson, "{} is {}; {} is accepted", node.path, shown(node.json),
           accepted);
  else
    for (const Json& element : node.json)
      nodes.push_back({element, fmt::format("{}[{}]", node.path, nodes.size())});
  return nodes;
}

bool JsonReader::boolean(const JsonNode& object, const char* key, bool otherwise) {
  const auto node = find(object, key);
  if (!node) return otherwise;
  if (node->json.is_boolean()) return node->json.get<bool>();
  refuse(StatusCode::kMalformedJson, "{} is {}; true or false is accepted", node->path,
         shown(node->json));
  return otherwise;
}

void JsonReader::add_note(std::string note) {
  if (std::ranges::find(notes_, note) == notes_.end()) notes_.push_back(std::move(note));
}

void JsonReader::read_inert(const InertKey& key, const JsonNode& node) {
  if (!key.has_type(node.json))
    refuse(StatusCode::kMalformedJson, "{} is {}; {} is accepted", node.path, shown(node.json),
           key.type);
  else if (!key.changes_nothing(node.json))
    refuse(StatusCode::kUnknownKey, "{} is {}; {}", node.path, shown(node.json), key.refusal);
  else
    note("{} has no effect: {}", key.name, key.why);
}

}  // namespace hip_attn::detail
