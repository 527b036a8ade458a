#include "normalizer.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstdlib>
#include <memory>

namespace llama {
namespace {

std::string normalize(std::string_view text, int options) {
  utf8proc_uint8_t* normalized = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &normalized,
                                 static_cast<utf8proc_option_t>(options));
  if (size < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a text of {} bytes cannot be normalized: {}", text.size(),
                            utf8proc_errmsg(size)));
  }
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owned(normalized, std::free);
  return {reinterpret_cast<const char*>(normalized), static_cast<std::size_t>(size)};
}

}  // namespace

void Normalizer::parse_step(const Fields& fields) {
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    const Json& steps = fields.at("normalizers");
    if (!steps.is_array()) fields.reject("normalizers", "a list of steps");
    for (std::size_t i = 0; i < steps.size(); ++i) {
      parse_step(Fields(steps[i], fmt::format("{} step {}", fields.where(), i),
                        ErrorCode::kMalformedTokenizer));
    }
  } else if (type == "NFC") {
    steps_.push_back(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  } else if (type == "NFD") {
    steps_.push_back(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
  } else if (type == "NFKC") {
    steps_.push_back(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  } else if (type == "NFKD") {
    steps_.push_back(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  } else {
    throw Error(ErrorCode::kUnsupportedTokenizer,
                fmt::format("{}: type is \"{}\"; this engine has NFC, NFD, NFKC, NFKD and Sequence",
                            fields.where(), type));
  }
}

Normalizer Normalizer::parse(const Fields& fields) {
  Normalizer normalizer;
  normalizer.parse_step(fields);
  return normalizer;
}

std::string Normalizer::operator()(std::string_view text) const {
  std::string normalized(text);
  for (const int options : steps_) normalized = normalize(normalized, options);
  return normalized;
}

}  // namespace llama
