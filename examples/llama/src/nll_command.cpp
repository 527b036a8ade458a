#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands.hpp"
#include "engine.hpp"
#include "error.hpp"
#include "json_file.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "stopwatch.hpp"
#include "text_nll.hpp"
#include "tokenizer.hpp"

namespace llama {
namespace {

struct NllOptions {
  CommonOptions common;
  std::filesystem::path file;
  std::int64_t tokens = 0;
  std::int64_t per = 0;
};

int nll(const NllOptions& options) {
  const auto backend = choose_backend(options.common);
  const Model model(options.common.model, *backend);
  const Tokenizer tokenizer = load_tokenizer(options.common.model, model.config());
  std::vector<TokenId> tokens = tokenizer.encode_with_special_tokens(read_file(options.file));
  // n tokens are predicted by the n before them, so one more is read.
  if (options.tokens > 0 && options.tokens + 1 < static_cast<std::int64_t>(tokens.size())) {
    tokens.resize(options.tokens + 1);
  }
  if (tokens.size() < 2) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} has {} tokens; expected at least 2",
                                                         options.file.string(), tokens.size()));
  }
  const auto length = static_cast<std::int64_t>(tokens.size());
  warm_up(model, std::min(options.common.prefill_rows, length), /*sequences=*/1);
  std::vector<TimedRun> runs;
  for (const AttentionVariant& variant : attention_variants(options.common, length)) {
    Engine engine(model, variant.options, engine_options(options.common, length));
    Sequence sequence = engine.new_sequence();
    Stopwatch watch(*backend);
    std::vector<double> nll;
    {
      Progress progress(variant.label, length, "tokens");
      nll =
          text_nll(engine, sequence, tokens, [&](std::int64_t count) { progress.advance(count); });
    }
    runs.push_back(watch.lap(variant.label));
    const auto predicted = static_cast<std::int64_t>(nll.size());
    const std::int64_t per = options.per > 0 ? options.per : predicted;
    for (std::int64_t first = 0; predicted > per && first < predicted; first += per) {
      const std::int64_t count = std::min(per, predicted - first);
      fmt::print("{}  tokens {} to {}: {:.5f}\n", variant.label, first, first + count - 1,
                 mean(std::span(nll).subspan(first, count)));
    }
    fmt::print("{}  mean of {} tokens: {:.5f}  ({:.3f} s of attention)\n", variant.label, predicted,
               mean(nll), runs.back().parts.attention());
  }
  fmt::print("\n{}", format_times(runs));
  return 0;
}

}  // namespace

void add_nll(CLI::App& app, Command& run) {
  const auto options = std::make_shared<NllOptions>();
  CLI::App* command =
      app.add_subcommand("nll", "Reports the mean negative log-likelihood of a file, in nats.");
  add_model_options(*command, options->common);
  add_engine_options(*command, options->common);
  add_attention_options(*command, options->common, /*several=*/true);
  command->add_option("--file", options->file, "the text")->required();
  command->add_option("--tokens", options->tokens, "tokens to predict; 0: the whole file")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--per", options->per, "also report the mean of every so many tokens")
      ->check(CLI::NonNegativeNumber);
  command->callback([options, &run] { run = [options] { return nll(*options); }; });
}

}  // namespace llama
