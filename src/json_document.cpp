#include "json_document.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <set>
#include <utility>
#include <vector>

namespace hip_attn::detail {
namespace {

// Three stages for each of 500 layers, indented, take half of it. Memory is linear in the text.
constexpr std::size_t kMaxBytes = std::size_t{1} << 20;
// The format itself nests 5 deep: layers[0].stages[0] is inside two lists and three objects.
constexpr std::size_t kMaxDepth = 16;
// Of a key or a value in a message.
constexpr std::size_t kMaxQuoted = 60;

/// "line 3, column 1" of the byte text[offset].
std::string place(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t newline = before.rfind('\n');
  return fmt::format("line {}, column {}", std::ranges::count(before, '\n') + 1,
                     before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1);
}

/// Walks the text once and builds nothing. Says where it is not JSON, and refuses what the tree of
/// values would hide (a key given twice) or suffer from (deep nesting).
class Inspector final : public nlohmann::json_sax<Json> {
 public:
  explicit Inspector(std::string_view text) : text_(text) {}

  [[nodiscard]] const std::string& problem() const { return problem_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }

  bool key(string_t& name) override {
    if (open_.back().insert(name).second) return true;
    problem_ = fmt::format("the key {} stands twice in one object", shown(name));
    return false;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    problem_ =
        fmt::format("the text is not JSON: {}", place(text_, position > 0 ? position - 1 : 0));
    return false;
  }

 private:
  bool enter() {
    open_.emplace_back();
    if (open_.size() <= kMaxDepth) return true;
    problem_ = fmt::format("the text nests more than {} levels deep", kMaxDepth);
    return false;
  }

  bool leave() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  std::vector<std::set<std::string>> open_;  // keys so far of the objects around (lists: none)
  std::string problem_;
};

}  // namespace

Status parse_json(std::string_view text, Json& document) {
  constexpr auto kMalformed = StatusCode::kMalformedJson;
  if (text.size() > kMaxBytes)
    return {kMalformed,
            fmt::format("the text has {} bytes; at most {} are accepted", text.size(), kMaxBytes)};
  Inspector inspector(text);
  if (!Json::sax_parse(text.begin(), text.end(), &inspector))
    return {kMalformed, inspector.problem()};
  // The parser takes a zero byte outside of a string for the end of the text.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    return {kMalformed, fmt::format("the text is not JSON: a zero byte at {}", place(text, zero))};
  document = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  return {};
}

std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kMaxQuoted) text.replace(kMaxQuoted, std::string::npos, "...");
  return text;
}

std::string member_path(const std::string& object, const std::string& key) {
  const bool plain =
      !key.empty() && key.size() <= kMaxQuoted && std::ranges::all_of(key, [](unsigned char c) {
        return c < 0x80 && (std::isalnum(c) != 0 || c == '_');
      });
  if (!plain) return fmt::format("{}[{}]", object, shown(key));
  return object.empty() ? key : fmt::format("{}.{}", object, key);
}

std::optional<JsonNode> find(const JsonNode& object, const std::string& key) {
  const auto it = object.json.find(key);
  if (it == object.json.end()) return std::nullopt;
  return JsonNode{*it, member_path(object.path, key)};
}

}  // namespace hip_attn::detail
