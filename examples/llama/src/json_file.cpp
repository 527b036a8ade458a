#include "json_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

namespace llama {
namespace {

/// That of serde_json, which wrote the safetensors and tokenizer files. Without a limit a file
/// could make recursive functions, such as dump, overflow the stack.
constexpr int kMaxDepth = 128;

bool is_deeper_than(int depth, const Json& json) {
  const auto child_is_deeper = [&](const Json& child) { return is_deeper_than(depth - 1, child); };
  return json.is_structured() &&
         (depth == 0 || std::any_of(json.begin(), json.end(), child_is_deeper));
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code ignored;
  // A folder can be opened like a file.
  if (!file || std::filesystem::is_directory(path, ignored)) {
    throw Error(ErrorCode::kCannotReadFile, fmt::format("cannot read {}", path.string()));
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (!file) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("cannot write {}", path.string()));
  }
}

Json parse_object(std::string_view text, const std::string& where, ErrorCode malformed) {
  const auto invalid = [&](const std::string& why) {
    return Error(malformed, fmt::format("{} is not valid JSON: {}", where, why));
  };
  // nlohmann's lexer takes a zero byte for the end of the text and ignores what follows.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    throw invalid(fmt::format("byte {} is zero", zero));
  }
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const std::string_view what = error.what();
    throw invalid(std::string(what.substr(what.find("] ") + 2)));
  }
  // Not by a callback of the parser: with one, it searches the list around every object for values
  // that the callback discarded, in time that grows with the square of the list.
  if (is_deeper_than(kMaxDepth, json)) {
    throw invalid(fmt::format("it is nested deeper than {}", kMaxDepth));
  }
  if (!json.is_object()) {
    throw Error(malformed,
                fmt::format("{} is a JSON {}; expected an object", where, json.type_name()));
  }
  return json;
}

std::string short_text(const Json& value) { return value.dump().substr(0, 80); }

Fields::Fields(const Json& object, std::string where, ErrorCode malformed)
    : object_(object), where_(std::move(where)), malformed_(malformed) {
  if (!object.is_object()) {
    throw Error(malformed,
                fmt::format("{} is a JSON {}; expected an object", where_, object.type_name()));
  }
}

void Fields::reject(const char* key, std::string_view accepted) const {
  throw Error(malformed_,
              fmt::format("{}: {} is {}; expected {}", where_, key,
                          has(key) ? short_text(object_.at(key)) : "missing", accepted));
}

bool Fields::has(const char* key) const { return object_.contains(key); }

const Json* Fields::find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

const Json& Fields::at(const char* key) const {
  const Json* value = find(key);
  if (!value) reject(key, "a value");
  return *value;
}

std::int64_t Fields::positive_integer(const char* key) const {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const Json* value = find(key);
  if (!value || !value->is_number_integer() || *value < 1 || *value > kMost) {
    reject(key, "an integer from 1 to 2^31");
  }
  return value->get<std::int64_t>();
}

std::int64_t Fields::positive_integer(const char* key, std::int64_t otherwise) const {
  return find(key) ? positive_integer(key) : otherwise;
}

double Fields::positive_number(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_number() || !(value->get<double>() > 0)) {
    reject(key, "a positive number");
  }
  return value->get<double>();
}

double Fields::positive_number(const char* key, double otherwise) const {
  return find(key) ? positive_number(key) : otherwise;
}

bool Fields::boolean(const char* key, bool otherwise) const {
  const Json* value = find(key);
  if (value && !value->is_boolean()) reject(key, "true or false");
  return value ? value->get<bool>() : otherwise;
}

std::string Fields::string(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_string()) reject(key, "a string");
  return value->get<std::string>();
}

std::string Fields::string(const char* key, const std::string& otherwise) const {
  return find(key) ? string(key) : otherwise;
}

Fields Fields::object(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_object()) reject(key, "an object");
  return Fields(*value, where_ + ": " + key, malformed_);
}

void Fields::fail(ErrorCode code, std::string_view what) const {
  throw Error(code, fmt::format("{}: {}", where_, what));
}

}  // namespace llama
