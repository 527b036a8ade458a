#include <fmt/format.h>

#include <fstream>
#include <memory>

#include "commands.hpp"
#include "engine.hpp"
#include "error.hpp"
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
  std::int64_t context = 16384;
  std::filesystem::path picture = "selection.svg";
};

void write_file(const std::filesystem::path& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (!file) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("cannot write {}", path.string()));
  }
}

int recall(const RecallOptions& options) {
  const auto backend = choose_backend(options.common);
  const Model model(options.common.model, *backend);
  const Tokenizer tokenizer = load_tokenizer(options.common.model, model.config());
  const RecallTask task =
      make_recall_task(tokenizer, options.data, options.context, options.common.seed);
  fmt::print("{} codes hidden in {} tokens; {} KV cache, pages of {} tokens; {}\n\n",
             task.facts.size(), task.text.size(),
             to_string(kv_type(options.common).value_or(backend->activation_type())),
             options.common.page_size, backend->description());
  warm_up(model, options.common.prefill_rows, static_cast<std::int64_t>(task.facts.size()));
  std::vector<RecallResult> results;
  std::vector<TimedRun> runs;
  bool pictured = false;
  std::string picture_note;
  for (const AttentionVariant& variant : attention_variants(options.common, options.context)) {
    const bool picture = !pictured && variant.options.mode == AttentionMode::kHip;
    results.push_back(run_recall(model, tokenizer, task, variant.options,
                                 engine_options(options.common, 0), variant.label, picture));
    runs.push_back(results.back().run);
    if (picture && !results.back().question_selections.empty()) {
      const RetrievalHead head = find_retrieval_head(task, results.back());
      write_file(options.picture, draw_selections(task, results.back(), head));
      picture_note =
          fmt::format("\n{}: what layer {}, KV head {} selected under {}\n",
                      std::filesystem::absolute(options.picture).lexically_normal().string(),
                      head.layer, head.kv_head, variant.label);
      pictured = true;
    }
  }
  fmt::print("{}\n{}{}", format_report(task, results), format_times(runs), picture_note);
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
  command->add_option("--context", options->context, "tokens of text, question and answer")
      ->capture_default_str();
  command
      ->add_option("--picture", options->picture,
                   "where to draw what a retrieval head selected under the first hip attention")
      ->capture_default_str();
  command->callback([options, &run] { run = [options] { return recall(*options); }; });
}

}  // namespace llama
