#include "tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "byte_level.hpp"
#include "utf8.hpp"
#include "warning.hpp"

namespace llama {
namespace {

constexpr auto kMalformed = ErrorCode::kMalformedTokenizer;

void require(bool condition, const Fields& fields, const std::string& what) {
  if (!condition) fields.fail(ErrorCode::kUnsupportedTokenizer, what);
}

}  // namespace

Tokenizer::Tokenizer(const std::filesystem::path& path) {
  const std::string where = path.string();
  const Json json = parse_object(read_file(path), where, kMalformed);
  const Fields root(json, where, kMalformed);
  const std::string version = root.string("version", "1.0");
  require(version == "1.0", root,
          fmt::format("version is \"{}\"; this engine reads \"1.0\"", version));
  model_ = Bpe::parse(root.object("model"));
  if (root.find("normalizer")) normalizer_ = Normalizer::parse(root.object("normalizer"));
  require(root.find("pre_tokenizer"), root, "pre_tokenizer is missing; expected ByteLevel");
  pretokenizer_ = Pretokenizer::parse(root.object("pre_tokenizer"));
  if (root.find("post_processor")) {
    post_processor_ = PostProcessor::parse(root.object("post_processor"));
  }
  if (root.find("decoder")) {
    const std::string decoder = root.object("decoder").string("type", "missing");
    require(decoder == "ByteLevel", root,
            fmt::format("decoder is \"{}\"; this engine has \"ByteLevel\"", decoder));
  }
  for (const auto& [entry, token] : model_.vocabulary()) {
    // An entry that is not written in byte-level characters stands for its own text.
    set_bytes(token, to_bytes(entry).value_or(entry));
  }
  add_tokens(root);
  check_post_processor(where);
}

void Tokenizer::set_bytes(TokenId token, std::string bytes) {
  if (token >= vocab_size()) bytes_of_.resize(token + 1);
  bytes_of_[token] = std::move(bytes);
}

void Tokenizer::add_tokens(const Fields& root) {
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  for (AddedToken& token : read_added_tokens(root, model_.vocabulary())) {
    const bool is_entry = model_.vocabulary().contains(token.content);
    if (token.normalized) token.content = normalizer_(token.content);
    if (!is_entry) set_bytes(token.id, token.content);
    (token.normalized ? normalized : raw).push_back(std::move(token));
  }
  raw_tokens_ = AddedTokenFinder(raw, root.where());
  normalized_tokens_ = AddedTokenFinder(normalized, root.where());
}

void Tokenizer::check_post_processor(const std::string& where) const {
  for (const auto tokens : {post_processor_.before(), post_processor_.after()}) {
    for (const TokenId token : tokens) {
      if (token < vocab_size()) continue;
      throw Error(kMalformed, fmt::format("{}: post_processor has token {}; the largest id is {}",
                                          where, token, vocab_size() - 1));
    }
  }
}

void Tokenizer::encode_valid(std::string_view text, std::vector<TokenId>& tokens) const {
  for (const auto& part : raw_tokens_.split(text)) {
    if (const TokenId* token = std::get_if<TokenId>(&part)) {
      tokens.push_back(*token);
      continue;
    }
    const std::string normalized = normalizer_(std::get<std::string_view>(part));
    for (const auto& rest : normalized_tokens_.split(normalized)) {
      if (const TokenId* token = std::get_if<TokenId>(&rest)) {
        tokens.push_back(*token);
        continue;
      }
      for (const std::string& piece : pretokenizer_.split(std::get<std::string_view>(rest))) {
        model_.encode(piece, tokens);
      }
    }
  }
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  std::vector<TokenId> tokens;
  while (!text.empty()) {
    const std::string_view valid = valid_prefix(text);
    encode_valid(valid, tokens);
    text.remove_prefix(valid.size());
    if (text.empty()) break;
    model_.encode(text.substr(0, 1), tokens);
    text.remove_prefix(1);
  }
  return tokens;
}

std::vector<TokenId> Tokenizer::encode_with_special_tokens(std::string_view text) const {
  std::vector<TokenId> tokens = encode(text);
  const auto before = post_processor_.before();
  const auto after = post_processor_.after();
  tokens.insert(tokens.begin(), before.begin(), before.end());
  tokens.insert(tokens.end(), after.begin(), after.end());
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
  for (const std::string& note : ignored_keys(folder, tokenizer.post_processor())) warn(note);
  return tokenizer;
}

std::vector<std::string> ignored_keys(const std::filesystem::path& folder,
                                      const PostProcessor& post_processor) {
  std::vector<std::string> notes;
  const std::filesystem::path path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return notes;
  const std::string where = path.string();
  const Json json = parse_object(read_file(path), where, kMalformed);
  const Fields fields(json, where, kMalformed);
  const auto compare = [&](const char* key, const char* place, bool adds) {
    if (fields.boolean(key, adds) == adds) return;
    notes.push_back(
        fmt::format("{}: {} is {} and has no effect: tokenizer.json's post_processor "
                    "decides, and it adds {} token {} a text",
                    where, key, !adds, adds ? "a" : "no", place));
  };
  compare("add_bos_token", "before", !post_processor.before().empty());
  compare("add_eos_token", "after", !post_processor.after().empty());
  return notes;
}

}  // namespace llama
