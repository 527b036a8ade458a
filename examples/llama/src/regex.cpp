#include "regex.hpp"

#include <fmt/format.h>
#include <oniguruma.h>

#include "error.hpp"
#include "utf8.hpp"

namespace llama {
namespace {

const OnigUChar* bytes(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

void initialize() {
  static const int code = [] {
    OnigEncoding encoding = ONIG_ENCODING_UTF8;
    return onig_initialize(&encoding, 1);
  }();
  if (code != ONIG_NORMAL) {
    throw Error(ErrorCode::kUnsupportedTokenizer, "Oniguruma cannot be initialized");
  }
}

}  // namespace

Regex::Regex(const std::string& pattern, const std::string& where, Syntax syntax)
    : name_(fmt::format("{}: pattern \"{}\"", where, pattern)) {
  initialize();
  regex_t* compiled = nullptr;
  OnigErrorInfo info{};
  const int code =
      onig_new(&compiled, bytes(pattern), bytes(pattern) + pattern.size(), ONIG_OPTION_NONE,
               ONIG_ENCODING_UTF8,
               syntax == Syntax::kLiteral ? ONIG_SYNTAX_ASIS : ONIG_SYNTAX_DEFAULT, &info);
  if (code != ONIG_NORMAL) {
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int size = onig_error_code_to_str(message, code, &info);
    throw Error(ErrorCode::kUnsupportedTokenizer,
                fmt::format("{} is not a regular expression of Oniguruma: {}", name_,
                            std::string_view(reinterpret_cast<const char*>(message), size)));
  }
  compiled_ = {compiled, onig_free};
}

void Regex::fail(int code) const {
  OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int size = onig_error_code_to_str(message, code);
  throw Error(ErrorCode::kUnsupportedTokenizer,
              fmt::format("{} cannot be matched: {}", name_,
                          std::string_view(reinterpret_cast<const char*>(message), size)));
}

std::vector<Segment> Regex::segments(std::string_view text) const {
  std::vector<Segment> segments;
  if (text.empty()) return segments;
  const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(
      onig_region_new(), [](OnigRegion* owned) { onig_region_free(owned, /*free_self=*/1); });
  const OnigUChar* const end = bytes(text) + text.size();
  std::size_t covered = 0;  // the end of the last segment
  std::size_t from = 0;
  bool after_match = false;
  while (from <= text.size()) {
    const int found = onig_search(compiled_.get(), bytes(text), end, bytes(text) + from, end,
                                  region.get(), ONIG_OPTION_NONE);
    if (found == ONIG_MISMATCH) break;
    if (found < 0) fail(found);
    const auto match_begin = static_cast<std::size_t>(region->beg[0]);
    const auto match_end = static_cast<std::size_t>(region->end[0]);
    if (match_begin == match_end && after_match && match_end == covered) {
      // An empty match right after another one would be found forever.
      const auto next = first_character(text.substr(from));
      from += next ? next->size : 1;
      continue;
    }
    if (match_begin > covered) {
      segments.push_back({text.substr(covered, match_begin - covered), false});
    }
    segments.push_back({text.substr(match_begin, match_end - match_begin), true});
    covered = from = match_end;
    after_match = true;
  }
  if (covered < text.size()) segments.push_back({text.substr(covered), false});
  return segments;
}

bool Regex::begins(std::string_view text) const {
  const int found = onig_match(compiled_.get(), bytes(text), bytes(text) + text.size(), bytes(text),
                               nullptr, ONIG_OPTION_NONE);
  if (found < 0 && found != ONIG_MISMATCH) fail(found);
  return found >= 0;
}

}  // namespace llama
