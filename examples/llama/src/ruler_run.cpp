#include "ruler_run.hpp"

#include <algorithm>
#include <cmath>

#include "progress.hpp"
#include "sampler.hpp"

namespace llama {
namespace {

/// Tokens behind a prompt, generated or of the given answer, at most.
std::int64_t most_new_tokens(std::span<const RulerTask> tasks) {
  std::int64_t most = 0;
  for (const RulerTask& task : tasks) {
    most = std::max({most, task.new_tokens, std::ssize(task.answer_tokens)});
  }
  return most;
}

/// All sequences decode as many steps as the longest answer has.
EngineOptions sized_for(std::span<const RulerTask> tasks, EngineOptions options) {
  const std::int64_t steps = most_new_tokens(tasks);
  options.max_sequences = std::ssize(tasks);
  options.max_seq_len = 0;
  options.cache_tokens = 0;
  for (const RulerTask& task : tasks) {
    const std::int64_t length = std::ssize(task.tokens) + steps;
    options.max_seq_len = std::max(options.max_seq_len, length);
    options.cache_tokens += length;
  }
  // What a fork for an answer's likelihood does not share: the prompt's last page, and the answer.
  options.cache_tokens += 2 * options.page_size + steps;
  return options;
}

/// Adds one token of an answer to the sums in `result`.
void add_token(std::span<const float> logits, TokenId token, RulerResult& result) {
  const TokenId likeliest = argmax(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - double{logits[likeliest]});
  result.answer_nll += std::log(sum) + double{logits[likeliest]} - double{logits[token]};
  result.answer_right += token == likeliest;
}

/// Fills answer_nll and answer_right. The sequence holds all of the prompt but its last token.
void rate_answer(Engine& engine, const Sequence& prompt, const RulerTask& task,
                 RulerResult& result) {
  const Model& model = engine.model();
  const std::int64_t vocab_size = model.config().vocab_size;
  Sequence fork = prompt.fork(prompt.slot());
  std::vector<TokenId> rest(task.tokens.begin() + fork.size(), task.tokens.end());
  rest.insert(rest.end(), task.answer_tokens.begin(), task.answer_tokens.end());
  // The row before a token predicts it.
  const std::int64_t end = std::ssize(rest) - 1;
  const std::int64_t begin = end - std::ssize(task.answer_tokens);
  engine.prefill(fork, rest, [&](std::int64_t first, const Tensor& hidden) {
    const std::int64_t from = std::max(first, begin);
    const std::int64_t count = std::min(first + hidden.rows, end) - from;
    if (count <= 0) return;
    const OwnedTensor rows(model.backend(), hip_attn::ElementType::kFloat32, count, vocab_size);
    model.logits(hidden.row_range(from - first, count), *rows);
    const std::vector<float> logits = download(model.backend(), *rows);
    for (std::int64_t i = 0; i < count; ++i) {
      add_token(std::span(logits).subspan(i * vocab_size, vocab_size), rest[from + i + 1], result);
    }
  });
  const auto tokens = static_cast<double>(task.answer_tokens.size());
  result.answer_nll /= tokens;
  result.answer_right /= tokens;
}

/// Greedily, until every answer has ended or has its new_tokens.
std::vector<std::vector<TokenId>> decode(Engine& engine, std::span<const RulerTask> tasks,
                                         std::span<const TokenId> ends,
                                         std::vector<Sequence>& sequences, Progress& progress) {
  std::vector<TokenId> next;
  for (const RulerTask& task : tasks) next.push_back(task.tokens.back());
  std::vector<std::vector<TokenId>> generated(tasks.size());
  std::vector<bool> ended(tasks.size());
  const std::int64_t vocab_size = engine.model().config().vocab_size;
  while (std::find(ended.begin(), ended.end(), false) != ended.end()) {
    std::vector<BatchEntry> entries;
    for (std::size_t i = 0; i < tasks.size(); ++i)
      entries.push_back({&sequences[i], {&next[i], 1}});
    const std::vector<float> logits = engine.run(Phase::kDecode, entries);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      next[i] = argmax(std::span(logits).subspan(i * vocab_size, vocab_size));
      ended[i] = ended[i] || std::find(ends.begin(), ends.end(), next[i]) != ends.end();
      if (!ended[i]) generated[i].push_back(next[i]);
      ended[i] = ended[i] || std::ssize(generated[i]) == tasks[i].new_tokens;
    }
    progress.advance(std::ssize(tasks));
  }
  return generated;
}

}  // namespace

std::vector<RulerResult> run_ruler_tasks(const Model& model, const Tokenizer& tokenizer,
                                         std::span<const RulerTask> tasks,
                                         std::span<const TokenId> ends,
                                         const AttentionOptions& attention, EngineOptions options,
                                         const std::string& label) {
  Engine engine(model, attention, sized_for(tasks, options));
  std::int64_t total = std::ssize(tasks) * most_new_tokens(tasks);
  for (const RulerTask& task : tasks) total += std::ssize(task.tokens);
  Progress progress(label, total, "tokens");
  std::vector<Sequence> sequences;
  std::vector<RulerResult> results(tasks.size());
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const std::span<const TokenId> prompt(tasks[i].tokens);
    Sequence& sequence = sequences.emplace_back(engine.new_sequence(static_cast<std::int32_t>(i)));
    engine.prefill(sequence, prompt.first(prompt.size() - 1),
                   [&](std::int64_t, const Tensor& hidden) { progress.advance(hidden.rows); });
    rate_answer(engine, sequence, tasks[i], results[i]);
  }
  const auto generated = decode(engine, tasks, ends, sequences, progress);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    results[i].generated = tokenizer.decode(generated[i]);
    results[i].match = match_strings(results[i].generated, tasks[i].outputs);
  }
  return results;
}

}  // namespace llama
