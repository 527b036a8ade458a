#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <optional>

#include "commands.hpp"
#include "engine.hpp"
#include "error.hpp"
#include "json_file.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "recall_task.hpp"
#include "text_table.hpp"
#include "tokenizer.hpp"
#include "view_capture.hpp"
#include "view_file.hpp"

namespace llama {
namespace {

/// A browser holds no longer text than about half a gigabyte.
constexpr std::int64_t kMostBytes = 400'000'000;

struct ViewOptions {
  CommonOptions common;
  std::filesystem::path prompt_file;
  std::filesystem::path data;
  std::int64_t context = 8192;
  std::vector<std::string> layers = {"all"};
  std::vector<std::string> heads = {"all"};
  std::filesystem::path out = "view.html";
};

struct ViewPrompt {
  std::vector<TokenId> tokens;
  std::vector<ViewMark> marks;
};

/// The text of the recall test, then every question with its answer: what a head looks up for them
/// is seen in the last rows.
ViewPrompt recall_prompt(const Tokenizer& tokenizer, const ViewOptions& options) {
  const auto make = [&](std::int64_t context) {
    return make_recall_task(tokenizer, options.data, context, options.common.seed);
  };
  const RecallTask whole = make(options.context);
  std::int64_t asked = 0;
  for (const Fact& fact : whole.facts) {
    asked += static_cast<std::int64_t>(fact.question.size() + fact.code.size());
  }
  const auto room = options.context - static_cast<std::int64_t>(whole.text.size());
  const RecallTask task = make(options.context - asked + room);
  ViewPrompt prompt{task.text, {}};
  for (const Fact& fact : task.facts) {
    prompt.tokens.insert(prompt.tokens.end(), fact.question.begin(), fact.question.end());
    prompt.marks.push_back(
        {fact.word, static_cast<std::int64_t>(prompt.tokens.size()) - 1, fact.code_begin});
    const std::vector<TokenId> code = tokenizer.encode(fact.code);
    prompt.tokens.insert(prompt.tokens.end(), code.begin(), code.end());
  }
  return prompt;
}

ViewPrompt file_prompt(const Tokenizer& tokenizer, const ViewOptions& options) {
  ViewPrompt prompt{tokenizer.encode_with_special_tokens(read_file(options.prompt_file)), {}};
  if (prompt.tokens.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has no tokens", options.prompt_file.string()));
  }
  if (options.context < static_cast<std::int64_t>(prompt.tokens.size())) {
    prompt.tokens.resize(options.context);
  }
  return prompt;
}

/// "all", or numbers below `count`; ascending, each once.
std::vector<std::int64_t> numbers(const std::vector<std::string>& words, std::int64_t count,
                                  const char* option) {
  std::vector<std::int64_t> numbers;
  if (words == std::vector<std::string>{"all"}) {
    numbers.resize(count);
    std::iota(numbers.begin(), numbers.end(), 0);
    return numbers;
  }
  for (const std::string& word : words) {
    std::int64_t number = -1;
    if (!CLI::detail::lexical_cast(word, number) || number < 0 || number >= count) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} has {}; expected all, or numbers from 0 to {} with commas",
                              option, word, count - 1));
    }
    numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

void require_search(const AttentionVariant& variant, const std::vector<std::int64_t>& layers) {
  if (variant.options.mode == AttentionMode::kDense) return;
  for (const std::int64_t layer : layers) {
    if (!variant.options.config.prefill(static_cast<std::int32_t>(layer)).is_window_only())
      continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("layer {} has a window alone: it selects no blocks to show; leave it "
                            "out of --layers",
                            layer));
  }
}

void require_size(std::int64_t tokens, std::int64_t layers, std::int64_t heads,
                  const LlamaConfig& model) {
  const std::int64_t kv_heads = std::min(heads, model.num_kv_heads);
  const std::int64_t bytes = view_file_bytes(tokens, layers, heads, kv_heads, model.head_dim);
  if (bytes <= kMostBytes) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("{} heads of {} layers over {} tokens make a file of about {} MB; expected "
                  "{} at most: choose fewer --layers, --heads or a shorter --context",
                  heads, layers, tokens, bytes / 1'000'000, kMostBytes / 1'000'000));
}

int view(const ViewOptions& options) {
  const auto backend = choose_backend(options.common);
  const Model model(options.common.model, *backend);
  const LlamaConfig& config = model.config();
  const Tokenizer tokenizer = load_tokenizer(options.common.model, config);
  const auto layers = numbers(options.layers, config.num_layers, "--layers");
  const auto heads = numbers(options.heads, config.num_q_heads, "--heads");
  const ViewPrompt prompt =
      options.data.empty() ? file_prompt(tokenizer, options) : recall_prompt(tokenizer, options);
  const auto length = static_cast<std::int64_t>(prompt.tokens.size());
  const AttentionVariant variant = attention_variants(options.common, length).front();
  require_search(variant, layers);
  require_size(length, std::ssize(layers), std::ssize(heads), config);

  ViewCapture capture(layers, config, *backend);
  {
    Engine engine(model, variant.options, engine_options(options.common, length));
    capture.observe(engine.attention());
    Sequence sequence = engine.new_sequence();
    Progress progress("prompt", length, "tokens");
    engine.prefill(sequence, prompt.tokens,
                   [&](std::int64_t, const Tensor& hidden) { progress.advance(hidden.rows); });
  }
  const std::string source = (options.data.empty() ? options.prompt_file : options.data).string();
  ViewDescription description{
      fmt::format(
          "{}, {} tokens of {}",
          std::filesystem::absolute(options.common.model / ".").parent_path().filename().string(),
          length, source),
      variant.label,
      {},
      prompt.marks,
      heads};
  for (const TokenId token : prompt.tokens) {
    description.tokens.push_back(tokenizer.decode({&token, 1}));
  }
  ViewFileSummary summary;
  {
    Progress progress("mass", std::ssize(layers) * config.num_q_heads, "heads");
    summary = write_view(options.out, description, config, capture.layers(),
                         [&] { progress.advance(1); });
  }
  fmt::print("mass covered, % by query head:\n");
  for (const auto& [layer, covered] : summary.covered) {
    fmt::print("layer {:>3} ", layer);
    for (const double share : covered) fmt::print(" {:6.2f}", 100 * share);
    fmt::print("\n");
  }
  fmt::print("{}: {:.1f} MB, {} tokens, {} layers of {} heads\n", options.out.string(),
             static_cast<double>(summary.bytes) / 1e6, length, layers.size(), heads.size());
  return 0;
}

}  // namespace

void add_view(CLI::App& app, Command& run) {
  const auto options = std::make_shared<ViewOptions>();
  CLI::App* command = app.add_subcommand(
      "view", "Writes a web page that shows what each head selects and what it misses.");
  add_model_options(*command, options->common);
  add_engine_options(*command, options->common);
  add_attention_options(*command, options->common, /*several=*/false);
  CLI::Option_group* prompt = command->add_option_group("prompt");
  prompt->add_option("--prompt-file", options->prompt_file, "a file with the prompt");
  prompt->add_option("--data", options->data,
                     "a folder with haystack.txt and reference.json: the text of the recall test "
                     "with all its questions and answers");
  prompt->require_option(1);
  command
      ->add_option("--context", options->context,
                   "tokens of the prompt at most, 8192 or 8k; what is behind them is left out")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, std::int64_t>{{"k", 1024}}))
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--layers", options->layers, "the layers to show: all, or a list with commas")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option(
          "--heads", options->heads,
          "the query heads of each layer whose queries and keys are in the file: all, or a "
          "list with commas; the others are in the table of the mass covered alone")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--out", options->out, "the page")->capture_default_str();
  command->callback([options, &run] { run = [options] { return view(*options); }; });
}

}  // namespace llama
