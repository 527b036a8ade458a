/// The commands of the program. Each adds itself to the command line and leaves its work in `run`,
/// which returns the exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace llama {

using Command = std::function<int()>;

void add_evaluate(CLI::App& app, Command& run);
void add_generate(CLI::App& app, Command& run);
void add_nll(CLI::App& app, Command& run);
void add_recall(CLI::App& app, Command& run);
void add_verify(CLI::App& app, Command& run);
void add_view(CLI::App& app, Command& run);

}  // namespace llama
