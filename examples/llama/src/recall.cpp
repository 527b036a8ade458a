#include "recall.hpp"

#include <algorithm>

#include "progress.hpp"
#include "sampler.hpp"
#include "text_nll.hpp"

namespace llama {
namespace {

/// Continues the text with the questions and decodes `answer_size` tokens for each. The selections
/// that find the first of them go to `selections`, if it is given.
std::vector<std::vector<TokenId>> ask(Engine& engine, const Sequence& prefix,
                                      const RecallTask& task, std::size_t answer_size,
                                      std::vector<SelectionEntry>* selections, Progress& progress) {
  const std::size_t count = task.facts.size();
  std::vector<Sequence> sequences;
  std::vector<std::vector<TokenId>> inputs;
  for (std::size_t i = 0; i < count; ++i) {
    const Sequence& sequence = sequences.emplace_back(prefix.fork(static_cast<std::int32_t>(i)));
    // The fork shares whole pages; what stood on the last one is part of the question's rows.
    auto& input = inputs.emplace_back(task.text.begin() + sequence.size(), task.text.end());
    input.insert(input.end(), task.facts[i].question.begin(), task.facts[i].question.end() - 1);
  }
  const auto run = [&](Phase phase) {
    std::vector<BatchEntry> entries;
    for (std::size_t i = 0; i < count; ++i) entries.push_back({&sequences[i], inputs[i]});
    return engine.run(phase, entries);
  };

  run(Phase::kPrefill);
  for (std::size_t i = 0; i < count; ++i) inputs[i] = {task.facts[i].question.back()};
  const std::int64_t vocab_size = engine.model().config().vocab_size;
  std::vector<std::vector<TokenId>> answers(count);
  for (std::size_t digit = 0; digit < answer_size; ++digit) {
    const bool record = digit == 0 && selections;
    engine.attention().observe_selections(record ? log_selections(*selections)
                                                 : SelectionObserver());
    const std::vector<float> logits = run(Phase::kDecode);
    for (std::size_t i = 0; i < count; ++i) {
      inputs[i] = {argmax(std::span(logits).subspan(i * vocab_size, vocab_size))};
      answers[i].push_back(inputs[i].front());
    }
    progress.advance(static_cast<std::int64_t>(count));
  }
  return answers;
}

void mark(const Tokenizer& tokenizer, const RecallTask& task,
          const std::vector<std::vector<TokenId>>& answers, RecallResult& result) {
  for (std::size_t i = 0; i < task.facts.size(); ++i) {
    const std::string& code = task.facts[i].code;
    std::int64_t right = 0;
    for (std::size_t digit = 0; digit < code.size(); ++digit) {
      right += tokenizer.decode({&answers[i][digit], 1}) == code.substr(digit, 1);
    }
    ++result.codes;
    result.digits += static_cast<std::int64_t>(code.size());
    result.digits_right += right;
    result.codes_right += right == static_cast<std::int64_t>(code.size());
    result.answers.push_back(tokenizer.decode(std::span(answers[i]).first(code.size())));
  }
}

}  // namespace

RecallResult run_recall(const Model& model, const Tokenizer& tokenizer, const RecallTask& task,
                        const AttentionOptions& attention, const EngineOptions& options,
                        const std::string& label, bool record_selections) {
  std::size_t answer_size = 0;
  std::size_t question_size = 0;
  for (const Fact& fact : task.facts) {
    answer_size = std::max(answer_size, fact.code.size());
    question_size = std::max(question_size, fact.question.size());
  }
  const auto text_size = static_cast<std::int64_t>(task.text.size());
  const auto num_facts = static_cast<std::int64_t>(task.facts.size());
  const auto asked_size = static_cast<std::int64_t>(question_size + answer_size);
  const auto tail_size = options.page_size + asked_size;  // a fork feeds the text's last page again
  EngineOptions sized = options;
  sized.max_sequences = num_facts;
  sized.max_seq_len = text_size + asked_size;
  sized.cache_tokens = text_size + num_facts * (tail_size + options.page_size);
  sized.prefill_rows = std::max(options.prefill_rows, num_facts * tail_size);
  Engine engine(model, attention, sized);
  RecallResult result;
  result.mode = attention.mode;

  Stopwatch watch(model.backend());
  Progress progress(label, text_size + num_facts * static_cast<std::int64_t>(answer_size),
                    "tokens");
  if (record_selections) {
    engine.attention().observe_selections(log_selections(result.text_selections));
  }
  Sequence prefix = engine.new_sequence();
  const std::vector<double> nll =
      text_nll(engine, prefix, task.text, [&](std::int64_t tokens) { progress.advance(tokens); });
  result.nll = mean(std::span(nll).subspan(nll.size() / 4));
  result.text_stats = engine.attention().stats();
  engine.attention().observe_selections({});
  const auto answers = ask(engine, prefix, task, answer_size,
                           record_selections ? &result.question_selections : nullptr, progress);
  result.run = watch.lap(label);
  mark(tokenizer, task, answers, result);
  return result;
}

}  // namespace llama
