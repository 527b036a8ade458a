// A JSON text as a tree whose values know where they stand.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "hip_attn/status.hpp"

namespace hip_attn::detail {

using Json = nlohmann::json;

// A value and its path, as messages name it: "layers[1].stages"; "" for the document.
struct JsonNode {
  const Json& json;
  std::string path;
};

// kMalformedJson: not JSON (with line and column), a zero byte, a key twice in one object, more
// than 16 levels of nesting, more than 1 MiB of text. `document` is written only on success.
Status parse_json(std::string_view text, Json& document);

// A value as a message shows it: one line of ASCII, at most 60 characters and "...".
std::string shown(const Json& value);

// The path of a member: "layers[1].stages", or layers[1]["odd name"] for what is no plain name.
std::string member_path(const std::string& object, const std::string& key);

std::optional<JsonNode> find(const JsonNode& object, const std::string& key);

}  // namespace hip_attn::detail
