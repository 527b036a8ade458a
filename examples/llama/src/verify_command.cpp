#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands.hpp"
#include "options.hpp"
#include "verify.hpp"

namespace llama {
namespace {

struct VerifyOptions {
  CommonOptions common;
  std::filesystem::path data;
};

int run_verify(const VerifyOptions& options) {
  const auto backend = choose_backend(options.common);
  const Model model(options.common.model, *backend);
  const Tokenizer tokenizer = load_tokenizer(options.common.model, model.config());
  const std::vector<Check> checks = verify(model, tokenizer, options.data, kv_type(options.common));
  for (const Check& check : checks) {
    fmt::print("{:<6} {:<32} {}\n", check.passed ? "ok" : "WRONG", check.name, check.detail);
  }
  return std::all_of(checks.begin(), checks.end(), [](const Check& c) { return c.passed; }) ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, Command& run) {
  const auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = app.add_subcommand(
      "verify", "Compares the engine with the reference figures of the bundled model.");
  add_model_options(*command, options->common);
  command->add_option("--data", options->data, "a folder with haystack.txt and reference.json")
      ->required();
  command->callback([options, &run] { run = [options] { return run_verify(*options); }; });
}

}  // namespace llama
