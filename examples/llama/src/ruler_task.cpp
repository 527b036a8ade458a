#include "ruler_task.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "error.hpp"
#include "ruler_formats.hpp"

namespace llama {
namespace {

std::string lowered(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

std::int64_t size_of(const std::vector<TokenId>& tokens) {
  return static_cast<std::int64_t>(tokens.size());
}

}  // namespace

const std::vector<std::string>& ruler_names() {
  static const std::vector<std::string> kNames = {
      "niah_single_2", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe"};
  return kNames;
}

std::string_view to_string(RulerKind kind) {
  return ruler_names().at(static_cast<std::size_t>(kind));
}

RulerKind ruler_kind(std::string_view name) {
  const auto& names = ruler_names();
  return static_cast<RulerKind>(std::find(names.begin(), names.end(), name) - names.begin());
}

RulerTask make_ruler_task(RulerKind kind, const Tokenizer& tokenizer, const Haystack& haystack,
                          std::int64_t context, std::uint64_t seed) {
  const auto count_tokens = [&](std::string_view text) { return size_of(tokenizer.encode(text)); };
  const RulerFormat format = ruler_format(kind, haystack, context, seed, count_tokens);
  const auto make = [&](std::int64_t units) {
    RulerDraft draft = format.draft(units);
    RulerTask task{kind,
                   context,
                   seed,
                   std::move(draft.input),
                   std::move(draft.answer_prefix),
                   std::move(draft.outputs),
                   std::move(draft.answer),
                   format.new_tokens,
                   {},
                   {}};
    const auto before = tokenizer.post_processor().before();
    task.tokens.assign(before.begin(), before.end());
    const std::vector<TokenId> prompt = tokenizer.encode(task.input + task.answer_prefix);
    task.tokens.insert(task.tokens.end(), prompt.begin(), prompt.end());
    task.answer_tokens = tokenizer.encode(task.answer);
    task.new_tokens = std::max(format.new_tokens, size_of(task.answer_tokens));
    return task;
  };
  const auto length = [&](std::int64_t units) {
    const RulerTask task = make(units);
    return size_of(task.tokens) + task.new_tokens;
  };
  const std::int64_t units = most_units(format.least_units, context, length);
  if (units < format.least_units) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("context is {}; expected at least {}, which the shortest prompt of {} "
                            "and its answer take",
                            context, length(format.least_units), to_string(kind)));
  }
  return make(units);
}

StringMatch match_strings(std::string_view generated, const std::vector<std::string>& outputs) {
  const std::string text = lowered(generated);
  const auto found = std::count_if(outputs.begin(), outputs.end(), [&](const std::string& output) {
    return text.find(lowered(output)) != std::string::npos;
  });
  return {static_cast<double>(found) / static_cast<double>(outputs.size()), found > 0 ? 1.0 : 0.0};
}

}  // namespace llama
