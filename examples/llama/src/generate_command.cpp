#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "commands.hpp"
#include "engine.hpp"
#include "error.hpp"
#include "hip_attn/build_info.hpp"
#include "json_file.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "sampler.hpp"
#include "selection_trace.hpp"
#include "special_tokens.hpp"
#include "stopwatch.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

struct GenerateOptions {
  CommonOptions common;
  std::string prompt;
  std::optional<std::filesystem::path> prompt_file;
  std::int64_t prompt_tokens = 1 << 30;
  std::int64_t max_tokens = 128;
  std::optional<std::filesystem::path> trace;
  std::optional<std::filesystem::path> json;
  SamplingOptions sampling;
};

int generate(GenerateOptions options) {
  const auto backend = choose_backend(options.common);
  const Model model(options.common.model, *backend);
  const Tokenizer tokenizer = load_tokenizer(options.common.model, model.config());
  const std::vector<TokenId> ends = stop_tokens(options.common.model, model.config());
  if (options.trace && options.common.search_ahead) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "--trace beside --search-ahead: a trace has one search and its selection in a step");
  }
  if (options.prompt_file) options.prompt = read_file(*options.prompt_file);
  std::vector<TokenId> prompt = tokenizer.encode_with_special_tokens(options.prompt);
  if (prompt.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "the prompt is empty, and the tokenizer puts no token before it");
  }
  const auto prompt_size =
      std::min(static_cast<std::int64_t>(prompt.size()), options.prompt_tokens);
  prompt.resize(prompt_size);
  const std::int64_t length = prompt_size + options.max_tokens;
  const AttentionVariant variant = attention_variants(options.common, length).front();
  Engine engine(model, variant.options, engine_options(options.common, length));
  options.sampling.seed = options.common.seed;
  Sampler sampler(options.sampling);

  warm_up(model, std::min(options.common.prefill_rows, prompt_size), /*sequences=*/1);
  Sequence sequence = engine.new_sequence();
  Stopwatch watch(*backend);
  {
    Progress progress("prompt", prompt_size - 1, "tokens");
    engine.prefill(sequence, std::span(prompt).first(prompt_size - 1),
                   [&](std::int64_t, const Tensor& hidden) { progress.advance(hidden.rows); });
  }
  std::vector<TimedRun> runs = {watch.lap("prompt")};

  std::optional<SelectionTrace> trace;
  if (options.trace) {
    const Json run = {{"run", variant.label},
                      {"device", backend->description()},
                      {"prompt_tokens", prompt_size},
                      {"settling_steps", options.common.settling_steps},
                      {"temperature", options.sampling.temperature}};
    trace.emplace(*options.trace, run, model.config(), engine.attention());
    engine.attention().observe_selections(trace->observer());
  }
  TokenId token = prompt.back();
  std::int64_t generated = 0;
  while (generated < options.max_tokens) {
    const BatchEntry entry{&sequence, {&token, 1}};
    token = sampler(engine.run(Phase::kDecode, {&entry, 1}));
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) break;
    const std::string text = tokenizer.decode({&token, 1});
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    ++generated;
  }
  runs.push_back(watch.lap("answer"));
  fmt::print("\n");
  if (trace) {
    fmt::print(stderr, "trace: {} bytes in {}\n", trace->close(), options.trace->string());
  }
  if (const auto store = engine.attention().store_counters()) {
    const std::int64_t asked = store->hits + store->misses;
    fmt::print(
        stderr, "KV store: {} blocks asked for, {:.2f} % of them hot; {} copied, {} evicted\n",
        asked,
        asked > 0 ? 100. * static_cast<double>(store->hits) / static_cast<double>(asked) : 0.,
        store->misses, store->evictions);
  }
  fmt::print(stderr, "{}: {} tokens after {}, {:.1f} tokens/s\n\n{}", variant.label, generated,
             prompt_size, static_cast<double>(generated) / std::max(runs.back().total, 1e-9),
             format_times(runs));
  if (options.json) {
    const Json report = {{"hip_attn", hip_attn::version()},
                         {"device", backend->description()},
                         {"attention", variant.label},
                         {"prompt_tokens", prompt_size},
                         {"tokens", generated},
                         {"runs", {to_json(runs[0]), to_json(runs[1])}}};
    write_file(*options.json, report.dump(1) + '\n');
  }
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Command& run) {
  const auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Continues a prompt.");
  add_model_options(*command, options->common);
  add_engine_options(*command, options->common);
  add_attention_options(*command, options->common, /*several=*/false);
  CLI::Option* prompt = command->add_option("--prompt", options->prompt, "the text to continue");
  command->add_option("--prompt-file", options->prompt_file, "a file with the text to continue")
      ->excludes(prompt);
  command
      ->add_option("--prompt-tokens", options->prompt_tokens,
                   "tokens of the prompt at most; what is behind them is left out")
      ->check(CLI::Range(1, 1 << 30));
  command->add_option("--max-tokens", options->max_tokens, "tokens to generate at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--trace", options->trace,
                      "a file for what every decode step asks of the KV cache; decode steps are "
                      "then not recorded as CUDA graphs");
  command->add_option("--json", options->json, "where to write the seconds of each part");
  SamplingOptions& sampling = options->sampling;
  command->add_option("--temperature", sampling.temperature, "0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "sample from the k likeliest tokens; 0: from all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--top-p", sampling.top_p,
                   "sample from the likeliest tokens that together reach this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->callback([options, &run] { run = [options] { return generate(*options); }; });
}

}  // namespace llama
