#include "added_tokens.hpp"

#include <fmt/format.h>
#include <marisa.h>

#include <algorithm>

#include "regex.hpp"
#include "token_id.hpp"
#include "utf8.hpp"

namespace llama {
namespace {

constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;

// tokenizers asks Rust for these classes; Oniguruma's differ from them by the two joiners.
const Regex& word_character() {
  static const Regex regex(R"([\w\x{200c}\x{200d}])", "single_word");
  return regex;
}

const Regex& space() {
  static const Regex regex(R"(\s)", "lstrip and rstrip");
  return regex;
}

bool is_single_word(std::string_view before, std::string_view after) {
  return (before.empty() || !word_character().begins(last_character(before))) &&
         !word_character().begins(after);
}

/// The size of a text without the white space at its end.
std::size_t size_without_space(std::string_view text) {
  while (!text.empty() && space().begins(last_character(text))) {
    text.remove_suffix(last_character(text).size());
  }
  return text.size();
}

/// The size of the white space at the start of a text.
std::size_t space_size(std::string_view text) {
  std::size_t size = 0;
  while (space().begins(text.substr(size))) size += first_character(text.substr(size))->size;
  return size;
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const Fields& root, const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  const Json* list = root.find("added_tokens");
  if (!list) return tokens;
  if (!list->is_array()) root.reject("added_tokens", "a list");
  std::unordered_map<std::string, std::size_t> index_of;
  auto next_id = static_cast<TokenId>(vocabulary.size());
  for (const Json& json : *list) {
    const Fields fields(json, root.where() + ": added_tokens", kMalformed);
    const std::string content = fields.string("content");
    if (content.empty()) continue;
    const Fields named(json, fmt::format("{}: \"{}\"", fields.where(), content), kMalformed);
    const auto flag = [&](const char* key) {
      if (!named.find(key)) named.reject(key, "true or false");
      return named.boolean(key, false);
    };

    const auto [known, is_new] = index_of.emplace(content, tokens.size());
    if (is_new) {
      const auto entry = vocabulary.find(content);
      tokens.emplace_back().content = content;
      tokens.back().id = entry != vocabulary.end() ? entry->second : next_id++;
    }
    AddedToken& token = tokens[known->second];
    token.single_word = flag("single_word");
    token.lstrip = flag("lstrip");
    token.rstrip = flag("rstrip");
    token.normalized = flag("normalized");
    if (const TokenId id = read_token_id(named.at("id"), named.where()); id != token.id) {
      throw Error(kMalformed,
                  fmt::format("{}: id is {}; expected {}, the id that tokenizers gives it: that of "
                              "the vocabulary, or for a token outside it the next of those that "
                              "follow the vocabulary's {} entries",
                              named.where(), id, token.id, vocabulary.size()));
    }
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, const std::string& where)
    : tokens_(tokens.size()) {
  marisa::Keyset keys;
  for (const AddedToken& token : tokens) keys.push_back(token.content.data(), token.content.size());
  const auto trie = std::make_shared<marisa::Trie>();
  trie->build(keys);
  trie_ = trie;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    AddedToken& slot = tokens_[keys[i].id()];
    if (!slot.content.empty()) {
      throw Error(kMalformed, fmt::format("{}: added_tokens: {} and {} are both \"{}\" when "
                                          "normalized",
                                          where, slot.id, tokens[i].id, slot.content));
    }
    slot = tokens[i];
  }
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::split(std::string_view text) const {
  std::vector<Part> parts;
  std::size_t covered = 0;  // by parts
  marisa::Agent agent;
  for (std::size_t at = 0; !tokens_.empty() && at < text.size();) {
    agent.set_query(text.data() + at, text.size() - at);
    const AddedToken* token = nullptr;
    while (trie_->common_prefix_search(agent)) token = &tokens_[agent.key().id()];
    if (!token) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = begin + token->content.size();
    at = end;
    if (token->single_word && !is_single_word(text.substr(0, begin), text.substr(end))) continue;
    if (token->lstrip) {
      begin = std::max(begin, covered);
      begin = covered + size_without_space(text.substr(covered, begin - covered));
    }
    if (token->rstrip) {
      end = std::max(end, covered);
      end += space_size(text.substr(end));
    }
    if (begin > covered) parts.emplace_back(text.substr(covered, begin - covered));
    // White space that the token before has taken still counts as this one, unless nothing is left.
    if (begin < end) parts.emplace_back(token->id);
    covered = end;
  }
  if (covered < text.size()) parts.emplace_back(text.substr(covered));
  return parts;
}

}  // namespace llama
