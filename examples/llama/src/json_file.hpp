/// JSON files and typed access to their fields, with errors that name file and field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "error.hpp"

namespace llama {

using Json = nlohmann::json;

/// The whole file as bytes; kCannotReadFile.
std::string read_file(const std::filesystem::path& path);

/// kInvalidArgument when not all could be written.
void write_file(const std::filesystem::path& path, std::string_view content);

/// The one JSON parser of the engine. Throws `malformed` when the text, all of it, is not a JSON
/// object; `where` names it in messages. Of equal keys the last counts, as in Python and Rust.
Json parse_object(std::string_view text, const std::string& where, ErrorCode malformed);

/// A value as a message shows it: its JSON text, cut after 80 bytes.
std::string short_text(const Json& value);

/// The fields of one JSON object. A field of the wrong type, or a missing one without a default,
/// throws `malformed` with the object's name, the field and what is accepted. null counts as
/// missing.
class Fields {
 public:
  Fields(const Json& object, std::string where, ErrorCode malformed);

  /// Also when the value is null.
  [[nodiscard]] bool has(const char* key) const;
  /// nullptr when missing or null.
  [[nodiscard]] const Json* find(const char* key) const;
  [[nodiscard]] const Json& at(const char* key) const;

  [[nodiscard]] std::int64_t positive_integer(const char* key) const;
  [[nodiscard]] std::int64_t positive_integer(const char* key, std::int64_t otherwise) const;
  [[nodiscard]] double positive_number(const char* key) const;
  [[nodiscard]] double positive_number(const char* key, double otherwise) const;
  [[nodiscard]] bool boolean(const char* key, bool otherwise) const;
  [[nodiscard]] std::string string(const char* key) const;
  [[nodiscard]] std::string string(const char* key, const std::string& otherwise) const;
  [[nodiscard]] Fields object(const char* key) const;

  [[nodiscard]] const Json& json() const noexcept { return object_; }
  [[nodiscard]] const std::string& where() const noexcept { return where_; }

  /// Throws `malformed` for a field: "<where>: <key> is <value>; expected <accepted>".
  [[noreturn]] void reject(const char* key, std::string_view accepted) const;
  /// Throws `code`: "<where>: <what>".
  [[noreturn]] void fail(ErrorCode code, std::string_view what) const;

 private:
  const Json& object_;
  std::string where_;
  ErrorCode malformed_;
};

}  // namespace llama
