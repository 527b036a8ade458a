#include "tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <queue>
#include <tuple>

#include "unicode.hpp"

namespace llama {
namespace {

constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;
constexpr auto kUnsupported = ErrorCode::kUnsupportedTokenizer;
constexpr std::int64_t kMaxTokens = 1 << 24;

/// The printable character that stands for each byte in a byte-level vocabulary: the byte's own
/// where Latin-1 has a visible one, else the next from U+0100 on.
std::array<char32_t, 256> printable_bytes() {
  std::array<char32_t, 256> printable{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool visible =
        (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    printable[byte] = visible ? static_cast<char32_t>(byte) : next++;
  }
  return printable;
}

/// The bytes that a vocabulary entry stands for, or nothing when it is not written in
/// printable_bytes().
std::optional<std::string> to_bytes(std::string_view entry) {
  static const auto kByteOf = [] {
    std::unordered_map<char32_t, char> byte_of;
    const auto printable = printable_bytes();
    for (int byte = 0; byte < 256; ++byte) byte_of[printable[byte]] = static_cast<char>(byte);
    return byte_of;
  }();
  std::string bytes;
  for (const Character& character : decode_utf8(entry)) {
    const auto it = kByteOf.find(character.code_point);
    if (it == kByteOf.end()) return std::nullopt;
    bytes.push_back(it->second);
  }
  return bytes;
}

TokenId read_id(const Json& value, const std::string& where) {
  if (!value.is_number_integer() || value < 0 || value >= kMaxTokens) {
    throw Error(kMalformed, fmt::format("{}: id is {}; expected an integer from 0 to 2^24 - 1",
                                        where, value.dump()));
  }
  return value.get<TokenId>();
}

/// Everything outside pre_tokenizer, vocab and merges that would change the tokens.
void check_kind(const Fields& root, const Fields& model) {
  const auto require = [](bool condition, const Fields& fields, const std::string& what) {
    if (!condition) throw Error(kUnsupported, fmt::format("{}: {}", fields.where(), what));
  };
  const std::string type = model.string("type", "missing");
  require(type == "BPE", model,
          fmt::format("type is \"{}\"; this engine has byte-level \"BPE\"", type));
  require(!model.boolean("byte_fallback", false), model,
          "byte_fallback is true (a SentencePiece tokenizer); this engine has byte-level BPE");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    require(model.string(affix, "").empty(), model,
            fmt::format("{} is \"{}\"; this engine has none", affix, model.string(affix, "")));
  }
  require(!model.find("dropout"), model, "dropout is set; this engine has none");
  if (const Json* normalizer = root.find("normalizer")) {
    require(
        false, root,
        fmt::format("normalizer is {}; this engine has none", normalizer->dump().substr(0, 80)));
  }
  require(root.find("pre_tokenizer"), root, "pre_tokenizer is missing; expected ByteLevel");
  if (root.find("decoder")) {
    const std::string decoder = root.object("decoder").string("type", "missing");
    require(decoder == "ByteLevel", root,
            fmt::format("decoder is \"{}\"; this engine has \"ByteLevel\"", decoder));
  }
}

}  // namespace

Tokenizer::Tokenizer(const std::filesystem::path& path) {
  const std::string where = path.string();
  const Json json = parse_object(read_file(path), where, kMalformed);
  const Fields root(json, where, kMalformed);
  const Fields model = root.object("model");
  check_kind(root, model);
  pretokenizer_ = Pretokenizer::parse(root.object("pre_tokenizer"));
  ignore_merges_ = model.boolean("ignore_merges", false);
  read_vocab(model, root.find("added_tokens"), where);
  read_merges(model);
}

void Tokenizer::set_bytes(TokenId token, std::string bytes) {
  if (token >= vocab_size()) bytes_of_.resize(token + 1);
  bytes_of_[token] = std::move(bytes);
}

void Tokenizer::read_vocab(const Fields& model, const Json* added_tokens,
                           const std::string& where) {
  if (added_tokens) {
    for (const Json& added : *added_tokens) {
      const Fields fields(added, where + ": added_tokens", kMalformed);
      const std::string content = fields.string("content");
      for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
        if (fields.boolean(flag, false)) {
          throw Error(kUnsupported, fmt::format("{}: {} has {} true; this engine has it false",
                                                fields.where(), content, flag));
        }
      }
      if (content.empty()) fields.reject("content", "a text");
      const TokenId token = read_id(fields.at("id"), fields.where() + ": " + content);
      added_tokens_.emplace_back(content, token);
      set_bytes(token, content);
    }
  }
  const auto is_added = [&](const std::string& entry) {
    return std::any_of(added_tokens_.begin(), added_tokens_.end(),
                       [&](const auto& added) { return added.first == entry; });
  };

  for (const auto& [entry, id] : model.object("vocab").json().items()) {
    const TokenId token = read_id(id, model.where() + ": vocab: " + entry);
    if (is_added(entry)) continue;
    auto bytes = to_bytes(entry);
    if (!bytes) {
      throw Error(kUnsupported, fmt::format("{}: the vocabulary has \"{}\", which is not written "
                                            "in the characters of byte-level BPE",
                                            model.where(), entry));
    }
    token_of_.emplace(*bytes, token);
    set_bytes(token, *std::move(bytes));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto it = token_of_.find(std::string(1, static_cast<char>(byte)));
    if (it == token_of_.end()) {
      throw Error(kMalformed,
                  fmt::format("{}: the vocabulary has no token for byte {}", model.where(), byte));
    }
    token_of_byte_[byte] = it->second;
  }
}

void Tokenizer::read_merges(const Fields& model) {
  const Json& merges = model.at("merges");
  if (!merges.is_array()) model.reject("merges", "a list");
  const auto reject = [&](const Json& merge, const char* what) {
    throw Error(kMalformed, fmt::format("{}: merge {} {}", model.where(), merge.dump(), what));
  };
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    // Written as "a b" by older versions of the format, as ["a", "b"] by newer ones.
    const Json& merge = merges[rank];
    std::string left;
    std::string right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0];
      right = merge[1];
    } else if (merge.is_string()) {
      const std::string both = merge;
      const std::size_t space = both.find(' ');
      if (space == std::string::npos) reject(merge, "has no space between its parts");
      left = both.substr(0, space);
      right = both.substr(space + 1);
    } else {
      reject(merge, "is neither \"a b\" nor [\"a\", \"b\"]");
    }
    const auto left_bytes = to_bytes(left);
    const auto right_bytes = to_bytes(right);
    if (!left_bytes || !right_bytes) reject(merge, "is not written in byte-level characters");
    const auto left_it = token_of_.find(*left_bytes);
    const auto right_it = token_of_.find(*right_bytes);
    const auto merged_it = token_of_.find(*left_bytes + *right_bytes);
    if (left_it == token_of_.end() || right_it == token_of_.end() || merged_it == token_of_.end()) {
      reject(merge, "has parts or a result outside the vocabulary");
    }
    merges_.emplace(pair_key(left_it->second, right_it->second),
                    Merge{static_cast<std::int32_t>(rank), merged_it->second});
  }
}

/// Merges the adjacent pair of lowest rank, the leftmost first, until none is left. The symbols are
/// a linked list and the pairs a heap, so that a piece of n bytes costs n log n.
void Tokenizer::encode_piece(std::string_view piece, std::vector<TokenId>& tokens) const {
  if (ignore_merges_) {
    if (const auto it = token_of_.find(std::string(piece)); it != token_of_.end()) {
      tokens.push_back(it->second);
      return;
    }
  }
  constexpr TokenId kGone = -1;
  struct Symbol {
    TokenId token;
    int previous;
    int next;  // -1 at the end
  };
  struct Candidate {
    std::int32_t rank;
    int left;
    std::uint64_t key;  // of the pair when it was seen: stale once either symbol has changed
    bool operator>(const Candidate& other) const {
      return std::tie(rank, left) > std::tie(other.rank, other.left);
    }
  };
  const int n = static_cast<int>(piece.size());
  std::vector<Symbol> symbols(n);
  for (int i = 0; i < n; ++i) {
    symbols[i] = {token_of_byte_[static_cast<unsigned char>(piece[i])], i - 1,
                  i + 1 < n ? i + 1 : -1};
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto push = [&](int left) {
    if (left < 0 || symbols[left].next < 0) return;
    const auto key = pair_key(symbols[left].token, symbols[symbols[left].next].token);
    const auto it = merges_.find(key);
    if (it != merges_.end()) candidates.push({it->second.rank, left, key});
  };
  for (int i = 0; i + 1 < n; ++i) push(i);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    if (left.token == kGone || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    if (pair_key(left.token, right.token) != best.key) continue;
    left.token = merges_.at(best.key).merged;
    left.next = right.next;
    right.token = kGone;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    push(left.previous);
    push(best.left);
  }
  for (int i = n > 0 ? 0 : -1; i >= 0; i = symbols[i].next) tokens.push_back(symbols[i].token);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  std::vector<TokenId> tokens;
  while (!text.empty()) {
    // The earliest added token, the longest of those that begin there.
    std::size_t begin = text.size();
    const std::pair<std::string, TokenId>* found = nullptr;
    for (const auto& added : added_tokens_) {
      const std::size_t at = text.find(added.first);
      if (at == std::string_view::npos) continue;
      if (at < begin || (found && at == begin && added.first.size() > found->first.size())) {
        begin = at;
        found = &added;
      }
    }
    for (const std::string_view piece : pretokenizer_.split(text.substr(0, begin))) {
      encode_piece(piece, tokens);
    }
    if (found) tokens.push_back(found->second);
    text.remove_prefix(found ? begin + found->first.size() : begin);
  }
  return tokens;
}

std::string Tokenizer::decode(std::span<const TokenId> tokens) const {
  std::string text;
  for (const TokenId token : tokens) {
    if (token >= 0 && token < vocab_size()) text += bytes_of_[token];
  }
  return text;
}

Tokenizer load_tokenizer(const std::filesystem::path& folder, const LlamaConfig& config) {
  Tokenizer tokenizer(folder / "tokenizer.json");
  if (tokenizer.vocab_size() > config.vocab_size) {
    throw Error(kMalformed, fmt::format("{}: {} tokens; config.json says vocab_size is {}",
                                        (folder / "tokenizer.json").string(),
                                        tokenizer.vocab_size(), config.vocab_size));
  }
  return tokenizer;
}

std::vector<TokenId> text_tokens(const Tokenizer& tokenizer, const LlamaConfig& config,
                                 std::string_view text) {
  std::vector<TokenId> tokens = tokenizer.encode(text);
  if (config.bos_token) tokens.insert(tokens.begin(), *config.bos_token);
  return tokens;
}

}  // namespace llama
