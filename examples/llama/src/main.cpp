/// A small Llama engine on hip_attn. See README.md.

#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "commands.hpp"
#include "error.hpp"

int main(int argc, char** argv) {
  CLI::App app{"Runs Llama models with hip_attn's attention."};
  app.require_subcommand(1);
  llama::Command run;
  llama::add_evaluate(app, run);
  llama::add_generate(app, run);
  llama::add_nll(app, run);
  llama::add_recall(app, run);
  llama::add_verify(app, run);
  llama::add_view(app, run);
  CLI11_PARSE(app, argc, argv);
  try {
    return run();
  } catch (const llama::Error& error) {
    fmt::print(stderr, "llama: {}: {}\n", llama::to_string(error.code()), error.what());
  } catch (const std::exception& error) {
    fmt::print(stderr, "llama: {}\n", error.what());
  }
  return 1;
}
