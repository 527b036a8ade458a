#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine.hpp"
#include "hip_attn/build_info.hpp"
#include "json_file.hpp"
#include "options.hpp"
#include "recall.hpp"
#include "recall_task.hpp"
#include "report.hpp"
#include "selection_picture.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

struct RecallOptions {
  CommonOptions common;
  std::filesystem::path data;
  std::vector<std::int64_t> contexts = {16384};
  std::int64_t seeds = 1;
  std::filesystem::path picture = "selection.svg";
  std::filesystem::path json;
};

/// Draws what the first result with recorded selections has, and returns a line about it.
std::string draw(const std::filesystem::path& path, const RecallTask& task,
                 const RecallResult& result) {
  const RetrievalHead head = find_retrieval_head(task, result);
  write_file(path, draw_selections(task, result, head));
  return fmt::format("\n{}: what layer {}, KV head {} selected under {}\n",
                     std::filesystem::absolute(path).lexically_normal().string(), head.layer,
                     head.kv_head, result.run.label);
}

/// Runs everything at one length and prints the tables. Each run is added to `runs`.
void recall_at(std::int64_t context, bool picture, const RecallOptions& options, const Model& model,
               const Tokenizer& tokenizer, Json& runs) {
  const std::vector<AttentionVariant> variants = attention_variants(options.common, context);
  std::vector<RecallSeries> all(variants.size());
  std::string picture_note;
  for (std::int64_t i = 0; i < options.seeds; ++i) {
    const RecallTask task = make_recall_task(tokenizer, options.data, context,
                                             options.common.seed + static_cast<std::uint64_t>(i));
    if (i == 0) {
      fmt::print("{} codes hidden in {} tokens; {} KV cache, pages of {} tokens; {}\n\n",
                 task.facts.size(), task.text.size(),
                 to_string(kv_type(options.common).value_or(model.backend().activation_type())),
                 engine_options(options.common, 0).page_size, model.backend().description());
      warm_up(model, options.common.prefill_rows, static_cast<std::int64_t>(task.facts.size()));
    }
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const AttentionVariant& variant = variants[v];
      const bool record =
          picture && picture_note.empty() && variant.options.mode == AttentionMode::kHip;
      RecallResult& result =
          all[v].emplace_back(run_recall(model, tokenizer, task, variant.options,
                                         engine_options(options.common, 0), variant.label, record));
      runs.push_back(to_json(task, result));
      if (!result.question_selections.empty()) picture_note = draw(options.picture, task, result);
      // These fill the memory at long contexts.
      result.text_selections = {};
      result.question_selections = {};
    }
  }
  fmt::print("{}\n{}{}\n", format_report(all), format_times(all), picture_note);
}

int recall(const RecallOptions& options) {
  const auto backend = choose_backend(options.common);
  const Model model(options.common.model, *backend);
  const Tokenizer tokenizer = load_tokenizer(options.common.model, model.config());
  Json runs = Json::array();
  for (const std::int64_t context : options.contexts) {
    const bool picture = context == options.contexts.front();
    recall_at(context, picture, options, model, tokenizer, runs);
  }
  if (!options.json.empty()) {
    const Json report = {
        {"hip_attn", hip_attn::version()},
        {"device", backend->description()},
        {"kv_type", to_string(kv_type(options.common).value_or(backend->activation_type()))},
        {"page_size", engine_options(options.common, 0).page_size},
        {"runs", runs}};
    write_file(options.json, report.dump(1) + '\n');
  }
  return 0;
}

}  // namespace

void add_recall(CLI::App& app, Command& run) {
  const auto options = std::make_shared<RecallOptions>();
  CLI::App* command = app.add_subcommand("recall", "Asks for codes hidden in a long text.");
  add_model_options(*command, options->common);
  add_engine_options(*command, options->common);
  add_attention_options(*command, options->common, /*several=*/true);
  command->add_option("--data", options->data, "a folder with haystack.txt and reference.json")
      ->required();
  add_context_option(*command, options->contexts, "tokens of text, question and answer");
  command
      ->add_option("--seeds", options->seeds,
                   "texts of each length, from --seed on: with other codes for the words, in other "
                   "places")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--picture", options->picture,
                   "where to draw what a retrieval head selected under the first hip attention")
      ->capture_default_str();
  command->add_option("--json", options->json, "where to write the results of every run");
  command->callback([options, &run] { run = [options] { return recall(*options); }; });
}

}  // namespace llama
