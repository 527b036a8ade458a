// Typed values out of a JSON tree. The first error is kept; what is read after it is well defined
// and thrown away, so that no caller needs to look at the status between two values.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json_document.hpp"

namespace hip_attn::detail {

// A key that nothing is read from. Most of its values change no result; the others are refused.
struct InertKey {
  std::string_view name;
  bool (*has_type)(const Json&);
  std::string_view type;  // what has_type accepts: "an integer"
  bool (*changes_nothing)(const Json&);
  std::string_view why;      // the note: "<name> has no effect: <why>"
  std::string_view refusal;  // of any other value: "<path> is <value>; <refusal>"
};

class JsonReader {
 public:
  [[nodiscard]] const Status& status() const { return status_; }
  // What was accepted although the text does not say it, or says it without effect; each once.
  [[nodiscard]] std::vector<std::string> take_notes() { return std::move(notes_); }

  template <typename... Args>
  void refuse(StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
    if (status_.ok()) status_ = {code, fmt::format(format, std::forward<Args>(args)...)};
  }
  template <typename... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    add_note(fmt::format(format, std::forward<Args>(args)...));
  }

  // Whether `node` is an object with no keys but these. Reads the inert ones.
  bool check_object(const JsonNode& node, std::span<const std::string_view> keys,
                    std::span<const InertKey> inert_keys);
  // The elements of a list; none after an error.
  std::vector<JsonNode> elements(const JsonNode& node, const char* accepted);
  // A member that is absent is `otherwise`, as is one that is neither true nor false.
  bool boolean(const JsonNode& object, const char* key, bool otherwise);

  // An integer from `minimum` to the largest T; `minimum` after an error.
  template <std::signed_integral T>
  T integer(const JsonNode& node, T minimum) {
    const Json& json = node.json;
    const bool in_range =
        json.is_number_unsigned()
            ? std::in_range<T>(json.get<std::uint64_t>())
            : json.is_number_integer() && std::in_range<T>(json.get<std::int64_t>());
    if (in_range && json.get<T>() >= minimum) return json.get<T>();
    refuse(StatusCode::kMalformedJson, "{} is {}; an integer from {} to {} is accepted", node.path,
           shown(json), minimum, std::numeric_limits<T>::max());
    return minimum;
  }

  template <std::signed_integral T>
  T required_integer(const JsonNode& object, const char* key, T minimum) {
    if (const auto node = find(object, key)) return integer(*node, minimum);
    refuse(StatusCode::kMalformedJson, "{} is missing; an integer of at least {} is accepted",
           member_path(object.path, key), minimum);
    return minimum;
  }

 private:
  void add_note(std::string note);
  void read_inert(const InertKey& key, const JsonNode& node);

  Status status_;
  std::vector<std::string> notes_;
};

}  // namespace hip_attn::detail
