#include "haystack.hpp"

#include <fmt/format.h>

#include <utility>

#include "error.hpp"
#include "json_file.hpp"

namespace llama {
namespace {

constexpr std::size_t kLeastWords = 100;

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}
bool is_lowercase(char c) { return c >= 'a' && c <= 'z'; }
/// Bytes of other letters than those of ASCII count too.
bool is_part_of_word(char c) {
  return is_lowercase(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

/// Calls visit with every longest run of characters of a kind.
template <typename IsOfKind, typename Visit>
void for_each_run(std::string_view text, IsOfKind&& is_of_kind, Visit&& visit) {
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && is_of_kind(text[end])) ++end;
    if (end > i) visit(text.substr(i, end - i));
    i = end + 1;
  }
}

}  // namespace

Haystack Haystack::read(const std::filesystem::path& path) {
  return Haystack(read_file(path), path.string());
}

Haystack::Haystack(std::string text, const std::string& where) : text_(std::move(text)) {
  for_each_run(
      text_, [](char c) { return !is_blank(c); },
      [&](std::string_view word) { words_.push_back(word); });
  std::set<std::string> different;
  for_each_run(text_, is_part_of_word, [&](std::string_view word) {
    if (word.size() >= 3 && word.size() <= 12 &&
        std::all_of(word.begin(), word.end(), is_lowercase)) {
      different.emplace(word);
    }
  });
  vocabulary_.assign(different.begin(), different.end());
  if (vocabulary_.size() < kLeastWords) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has {} different words of 3 to 12 lowercase letters; expected at "
                            "least {}, from which tasks draw their words",
                            where, vocabulary_.size(), kLeastWords));
  }
}

std::string draw_word_pair(const std::vector<std::string>& vocabulary, SeededDraw& draw) {
  const std::string& first = draw.one_of(vocabulary);
  return first + '-' + draw.one_of(vocabulary);
}

DistinctWords::DistinctWords(const std::vector<std::string>& vocabulary, SeededDraw draw)
    : vocabulary_(vocabulary), draw_(std::move(draw)), words_(vocabulary) {
  draw_.shuffle(words_);
}

std::vector<std::string> DistinctWords::first(std::int64_t count) {
  while (static_cast<std::int64_t>(words_.size()) < count) {
    const auto [pair, is_new] = pairs_.insert(draw_word_pair(vocabulary_, draw_));
    if (is_new) words_.push_back(*pair);
  }
  return {words_.begin(), words_.begin() + count};
}

}  // namespace llama
