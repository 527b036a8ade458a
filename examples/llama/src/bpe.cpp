#include "bpe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <queue>
#include <tuple>
#include <utility>

#include "byte_level.hpp"
#include "token_id.hpp"

namespace llama {
namespace {

constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;
constexpr TokenId kGone = -1;
constexpr int kNone = -1;  // beyond either end of the symbols

/// Everything outside vocab and merges that would change the tokens.
void check_kind(const Fields& model) {
  const auto require = [&](bool condition, const std::string& what) {
    if (!condition) model.fail(ErrorCode::kUnsupportedTokenizer, what);
  };
  // The first files of the format name no type; BPE is the one with merges.
  const std::string type = model.string("type", model.find("merges") ? "BPE" : "missing");
  require(type == "BPE", fmt::format("type is \"{}\"; this engine has byte-level \"BPE\"", type));
  require(!model.boolean("byte_fallback", false),
          "byte_fallback is true (a SentencePiece tokenizer); this engine has byte-level BPE");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    require(model.string(affix, "").empty(),
            fmt::format("{} is \"{}\"; this engine has none", affix, model.string(affix, "")));
  }
  const Json* dropout = model.find("dropout");
  require(!dropout || *dropout == 0.0,
          fmt::format("dropout is {}; this engine has none", dropout ? dropout->dump() : ""));
}

/// The parts of a merge, written as "a b" by older versions of the format, as ["a", "b"] by newer.
std::pair<std::string, std::string> read_parts(const Fields& model, const Json& merge) {
  const auto reject = [&](const char* what) {
    throw Error(kMalformed, fmt::format("{}: merge {} {}", model.where(), merge.dump(), what));
  };
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0], merge[1]};
  }
  if (!merge.is_string()) reject("is neither \"a b\" nor [\"a\", \"b\"]");
  const std::string both = merge;
  const std::size_t space = both.find(' ');
  if (space == std::string::npos) reject("has no space between its parts");
  return {both.substr(0, space), both.substr(space + 1)};
}

}  // namespace

Bpe Bpe::parse(const Fields& fields) {
  check_kind(fields);
  Bpe bpe;
  bpe.ignore_merges_ = fields.boolean("ignore_merges", false);
  bpe.fuse_unknown_ = fields.boolean("fuse_unk", false);
  bpe.read_vocabulary(fields);
  bpe.read_bytes(fields);
  bpe.read_merges(fields);
  return bpe;
}

void Bpe::read_vocabulary(const Fields& fields) {
  std::unordered_map<TokenId, std::string> entry_of;
  for (const auto& [entry, id] : fields.object("vocab").json().items()) {
    const TokenId token = read_token_id(id, fields.where() + ": vocab: " + entry);
    const auto [other, is_new] = entry_of.emplace(token, entry);
    if (!is_new) {
      throw Error(kMalformed, fmt::format("{}: vocab: \"{}\" and \"{}\" have the same id, {}",
                                          fields.where(), other->second, entry, token));
    }
    vocabulary_.emplace(entry, token);
  }
}

void Bpe::read_bytes(const Fields& fields) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto it = vocabulary_.find(to_printable(std::string(1, static_cast<char>(byte))));
    if (it != vocabulary_.end()) token_of_byte_[byte] = it->second;
  }
  const std::string unknown = fields.string("unk_token", "");
  if (const auto it = vocabulary_.find(unknown); it != vocabulary_.end()) unknown_ = it->second;
  const auto lacking = std::find(token_of_byte_.begin(), token_of_byte_.end(), std::nullopt);
  if (!unknown.empty() && !unknown_ && lacking != token_of_byte_.end()) {
    throw Error(kMalformed,
                fmt::format("{}: the vocabulary has no token for byte {}, nor unk_token "
                            "\"{}\"",
                            fields.where(), lacking - token_of_byte_.begin(), unknown));
  }
}

void Bpe::read_merges(const Fields& fields) {
  const Json& merges = fields.at("merges");
  if (!merges.is_array()) fields.reject("merges", "a list");
  std::int32_t rank = 0;
  for (const Json& merge : merges) {
    // A list that was taken over from a merges.txt may still have its first line.
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
    const auto [left, right] = read_parts(fields, merge);
    const auto left_it = vocabulary_.find(left);
    const auto right_it = vocabulary_.find(right);
    const auto merged_it = vocabulary_.find(left + right);
    const auto end = vocabulary_.end();
    if (left_it == end || right_it == end || merged_it == end) {
      throw Error(kMalformed,
                  fmt::format("{}: merge {} has parts or a result outside the vocabulary",
                              fields.where(), merge.dump()));
    }
    merges_[pair_key(left_it->second, right_it->second)] = {rank++, merged_it->second};
  }
}

std::vector<Bpe::Symbol> Bpe::symbols_of(std::string_view piece) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  bool after_unknown = false;
  for (const char byte : piece) {
    const auto token = token_of_byte_[static_cast<unsigned char>(byte)];
    const bool fused = !token && fuse_unknown_ && after_unknown;
    after_unknown = !token;
    if (fused || (!token && !unknown_)) continue;
    const int at = static_cast<int>(symbols.size());
    symbols.push_back({token ? *token : *unknown_, at - 1, at + 1});
  }
  if (!symbols.empty()) symbols.back().next = kNone;
  return symbols;
}

/// Merges the adjacent pair of lowest rank, the leftmost first, until none is left. The symbols are
/// a linked list and the pairs a heap, so that a piece of n bytes costs n log n.
void Bpe::merge(std::vector<Symbol>& symbols) const {
  struct Candidate {
    std::int32_t rank;
    int left;
    std::uint64_t key;  // of the pair when it was seen: stale once either symbol has changed
    bool operator>(const Candidate& other) const {
      return std::tie(rank, left) > std::tie(other.rank, other.left);
    }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto push = [&](int left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const auto key = pair_key(symbols[left].token, symbols[symbols[left].next].token);
    const auto it = merges_.find(key);
    if (it != merges_.end()) candidates.push({it->second.rank, left, key});
  };
  for (int i = 0; i < static_cast<int>(symbols.size()); ++i) push(i);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    if (left.token == kGone || left.next == kNone) continue;
    Symbol& right = symbols[left.next];
    if (pair_key(left.token, right.token) != best.key) continue;
    left.token = merges_.at(best.key).merged;
    left.next = right.next;
    right.token = kGone;
    if (left.next != kNone) symbols[left.next].previous = best.left;
    push(left.previous);
    push(best.left);
  }
}

void Bpe::encode(std::string_view piece, std::vector<TokenId>& tokens) const {
  if (ignore_merges_) {
    if (const auto it = vocabulary_.find(to_printable(piece)); it != vocabulary_.end()) {
      tokens.push_back(it->second);
      return;
    }
  }
  std::vector<Symbol> symbols = symbols_of(piece);
  merge(symbols);
  for (const Symbol& symbol : symbols) {
    if (symbol.token != kGone) tokens.push_back(symbol.token);
  }
}

}  // namespace llama
