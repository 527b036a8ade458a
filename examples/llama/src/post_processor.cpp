#include "post_processor.hpp"

#include <fmt/format.h>

#include "token_id.hpp"

namespace llama {
namespace {

/// The id in ["</s>", 2].
TokenId read_pair(const Fields& fields, const char* key) {
  const Json& pair = fields.at(key);
  if (!pair.is_array() || pair.size() != 2) fields.reject(key, "a token and its id");
  return read_token_id(pair[1], fmt::format("{}: {}", fields.where(), key));
}

}  // namespace

void PostProcessor::parse_template(const Fields& fields) {
  const Json& pieces = fields.at("single");
  if (!pieces.is_array()) fields.reject("single", "a list of pieces");
  bool has_text = false;
  for (const Json& json : pieces) {
    const Fields piece(json, fields.where() + ": single", ErrorCode::kMalformedTokenizer);
    if (piece.find("Sequence")) {
      const std::string sequence = piece.object("Sequence").string("id");
      if (sequence != "A" || has_text) {
        fields.fail(
            ErrorCode::kUnsupportedTokenizer,
            fmt::format("single is {}; this engine has templates with one text, A", pieces.dump()));
      }
      has_text = true;
      continue;
    }
    const std::string name = piece.object("SpecialToken").string("id");
    const Fields token = fields.object("special_tokens").object(name.c_str());
    const Json& ids = token.at("ids");
    if (!ids.is_array()) token.reject("ids", "a list of token ids");
    for (const Json& id : ids) {
      (has_text ? after_ : before_).push_back(read_token_id(id, token.where()));
    }
  }
  if (!has_text) fields.reject("single", "a template with the text, A");
}

void PostProcessor::parse_step(const Fields& fields) {
  const std::string type = fields.string("type");
  if (type == "ByteLevel") return;
  if (type == "Sequence") {
    const Json& steps = fields.at("processors");
    if (!steps.is_array()) fields.reject("processors", "a list of steps");
    for (std::size_t i = 0; i < steps.size(); ++i) {
      parse_step(Fields(steps[i], fmt::format("{} step {}", fields.where(), i),
                        ErrorCode::kMalformedTokenizer));
    }
    return;
  }
  // tokenizers takes the tokens that one step adds for a second text in the next.
  if (!before_.empty() || !after_.empty()) {
    fields.fail(ErrorCode::kUnsupportedTokenizer,
                fmt::format("type is \"{}\", after a step that adds tokens; this engine has "
                            "one such step",
                            type));
  }
  if (type == "TemplateProcessing") {
    parse_template(fields);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    before_ = {read_pair(fields, "cls")};
    after_ = {read_pair(fields, "sep")};
  } else {
    fields.fail(ErrorCode::kUnsupportedTokenizer,
                fmt::format("type is \"{}\"; this engine has TemplateProcessing, "
                            "BertProcessing, RobertaProcessing, ByteLevel and Sequence",
                            type));
  }
}

PostProcessor PostProcessor::parse(const Fields& fields) {
  PostProcessor processor;
  processor.parse_step(fields);
  return processor;
}

}  // namespace llama
