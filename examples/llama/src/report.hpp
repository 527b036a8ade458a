/// The table that compares the results of the recall test.
#pragma once

#include <span>
#include <string>

#include "recall.hpp"

namespace llama {

/// One line per result. The columns are defined in docs/guide/demo.md.
std::string format_report(const RecallTask& task, std::span<const RecallResult> results);

}  // namespace llama
