#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine.hpp"
#include "evaluate_report.hpp"
#include "hip_attn/build_info.hpp"
#include "json_file.hpp"
#include "options.hpp"
#include "ruler_run.hpp"
#include "special_tokens.hpp"
#include "text_quality.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

/// The name among --tasks of what is measured on the haystack itself.
constexpr const char* kText = "text";

struct EvaluateOptions {
  CommonOptions common;
  std::filesystem::path haystack;
  std::vector<std::string> tasks;
  std::vector<std::int64_t> contexts = {8192};
  std::int64_t seeds = 1;
  SampleOptions sample;
  std::int64_t batch = 6;
  std::filesystem::path json;
  std::filesystem::path dump_tasks;
};

std::vector<std::string> task_names() {
  std::vector<std::string> names = {kText};
  names.insert(names.end(), ruler_names().begin(), ruler_names().end());
  return names;
}

std::vector<RulerTask> make_tasks(const EvaluateOptions& options, const Tokenizer& tokenizer,
                                  const Haystack& haystack, std::int64_t context) {
  std::vector<RulerTask> tasks;
  for (const std::string& name : options.tasks) {
    if (name == kText) continue;
    for (std::int64_t i = 0; i < options.seeds; ++i) {
      tasks.push_back(make_ruler_task(ruler_kind(name), tokenizer, haystack, context,
                                      options.common.seed + static_cast<std::uint64_t>(i)));
    }
  }
  return tasks;
}

int dump_tasks(const EvaluateOptions& options) {
  const Tokenizer tokenizer(options.common.model / "tokenizer.json");
  const Haystack haystack = Haystack::read(options.haystack);
  std::string lines;
  for (const std::int64_t context : options.contexts) {
    for (const RulerTask& task : make_tasks(options, tokenizer, haystack, context)) {
      // Bytes of a haystack that are not UTF-8 become U+FFFD.
      lines += to_json(task).dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
    }
  }
  write_file(options.dump_tasks, lines);
  return 0;
}

class Evaluation {
 public:
  explicit Evaluation(const EvaluateOptions& options)
      : options_(options),
        backend_(choose_backend(options.common)),
        model_(options.common.model, *backend_),
        tokenizer_(load_tokenizer(options.common.model, model_.config())),
        ends_(stop_tokens(options.common.model, model_.config())),
        haystack_(Haystack::read(options.haystack)),
        with_text_(std::find(options.tasks.begin(), options.tasks.end(), kText) !=
                   options.tasks.end()) {
    warm_up(model_, options.common.prefill_rows, options.batch);
  }

  void run() {
    for (const std::int64_t context : options_.contexts) run_at(context);
  }

 private:
  /// After each kind of attention, so that a run that is interrupted leaves what it has.
  void write_json() const {
    if (options_.json.empty()) return;
    const Json report = {
        {"hip_attn", hip_attn::version()},
        {"device", backend_->description()},
        {"kv_type", to_string(kv_type(options_.common).value_or(backend_->activation_type()))},
        {"page_size", engine_options(options_.common, 0).page_size},
        {"sample_rows", options_.sample.rows},
        {"top_keys", options_.sample.top_keys},
        {"texts", texts_},
        {"tasks", tasks_}};
    write_file(options_.json, report.dump(1, ' ', false, Json::error_handler_t::replace) + '\n');
  }

  /// Runs everything at one length and prints the tables.
  void run_at(std::int64_t context) {
    const std::vector<RulerTask> tasks = make_tasks(options_, tokenizer_, haystack_, context);
    const std::vector<std::vector<TokenId>> texts = make_texts(context);
    fmt::print("{} tokens; {} text{} of each kind; {}\n\n", context, options_.seeds,
               options_.seeds == 1 ? "" : "s", backend_->description());
    std::vector<QualitySeries> all;
    for (const AttentionVariant& variant : attention_variants(options_.common, context)) {
      QualitySeries& series = all.emplace_back();
      series.label = variant.label;
      series.is_dense = variant.options.mode == AttentionMode::kDense;
      run_texts(texts, variant, series);
      run_tasks(tasks, variant, series);
      write_json();
    }
    if (with_text_) fmt::print("{}\n", format_text_quality(all, options_.sample.top_keys));
    if (!tasks.empty()) fmt::print("{}\n", format_task_scores(all, tasks));
    std::fflush(stdout);
  }

  /// One for each seed, where texts are asked for.
  [[nodiscard]] std::vector<std::vector<TokenId>> make_texts(std::int64_t context) const {
    std::vector<std::vector<TokenId>> texts;
    for (std::int64_t i = 0; with_text_ && i < options_.seeds; ++i) {
      texts.push_back(quality_text(tokenizer_, haystack_, context, seed(i)));
    }
    return texts;
  }

  [[nodiscard]] std::uint64_t seed(std::int64_t text) const {
    return options_.common.seed + static_cast<std::uint64_t>(text);
  }

  void run_texts(const std::vector<std::vector<TokenId>>& texts, const AttentionVariant& variant,
                 QualitySeries& series) {
    for (std::int64_t i = 0; i < std::ssize(texts); ++i) {
      const std::int64_t context = std::ssize(texts[i]);
      SampleOptions sample = options_.sample;
      sample.seed = seed(i);
      series.texts.push_back(run_text_quality(model_, texts[i], variant.options,
                                              engine_options(options_.common, context), sample,
                                              variant.label + ", text"));
      series.texts.back().label = variant.label;
      texts_.push_back(to_json(series.texts.back(), context, seed(i)));
    }
  }

  void run_tasks(std::span<const RulerTask> tasks, const AttentionVariant& variant,
                 QualitySeries& series) {
    for (std::size_t first = 0; first < tasks.size();) {
      const auto batch =
          tasks.subspan(first, std::min<std::size_t>(options_.batch, tasks.size() - first));
      const auto results =
          run_ruler_tasks(model_, tokenizer_, batch, ends_, variant.options,
                          engine_options(options_.common, 0), variant.label + ", tasks");
      for (std::size_t i = 0; i < batch.size(); ++i) {
        tasks_.push_back(to_json(batch[i], results[i], variant.label));
        series.results.push_back(results[i]);
      }
      first += batch.size();
    }
  }

  EvaluateOptions options_;
  std::unique_ptr<Backend> backend_;
  Model model_;
  Tokenizer tokenizer_;
  std::vector<TokenId> ends_;
  Haystack haystack_;
  bool with_text_;
  Json texts_ = Json::array();
  Json tasks_ = Json::array();
};

int evaluate(const EvaluateOptions& options) {
  if (!options.dump_tasks.empty()) return dump_tasks(options);
  Evaluation(options).run();
  return 0;
}

}  // namespace

void add_evaluate(CLI::App& app, Command& run) {
  const auto options = std::make_shared<EvaluateOptions>();
  options->tasks = task_names();
  CLI::App* command = app.add_subcommand(
      "evaluate", "Compares kinds of attention with all keys: on a text, and on RULER's tasks.");
  add_model_options(*command, options->common);
  add_engine_options(*command, options->common);
  add_attention_options(*command, options->common, /*several=*/true);
  command
      ->add_option("--haystack", options->haystack,
                   "the text that is read, and in which tasks hide things")
      ->required();
  command
      ->add_option("--tasks", options->tasks,
                   "what to run, a list with commas; text: likelihood of the haystack, attention "
                   "mass and top keys; the others are RULER's")
      ->check(CLI::IsMember(task_names()))
      ->delimiter(',')
      ->capture_default_str();
  add_context_option(*command, options->contexts, "tokens of a text, or of prompt and answer");
  command->add_option("--seeds", options->seeds, "texts of each kind and length, from --seed on")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--sample-rows", options->sample.rows,
                   "rows of each text and layer that are compared with every key")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command
      ->add_option("--top-keys", options->sample.top_keys,
                   "of how many keys with the largest logits to say which share is attended")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "prompts whose answers are decoded together")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->add_option("--json", options->json, "where to write the results of every run");
  command->add_option(
      "--dump-tasks", options->dump_tasks,
      "write the prompts of the tasks there, a JSON object a line, and run nothing");
  command->callback([options, &run] { run = [options] { return evaluate(*options); }; });
}

}  // namespace llama
