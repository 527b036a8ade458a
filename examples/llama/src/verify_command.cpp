#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands.hpp"
#include "verify.hpp"

namespace llama {
namespace {

struct VerifyOptions {
  std::filesystem::path model;
  std::filesystem::path data;
};

int run_verify(const VerifyOptions& options) {
  const Model model(options.model);
  const Tokenizer tokenizer = load_tokenizer(options.model, model.config());
  const std::vector<Check> checks = verify(model, tokenizer, options.data);
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
  command->add_option("--model", options->model, "the bundled model's folder")->required();
  command->add_option("--data", options->data, "a folder with haystack.txt and reference.json")
      ->required();
  command->callback([options, &run] { run = [options] { return run_verify(*options); }; });
}

}  // namespace llama
