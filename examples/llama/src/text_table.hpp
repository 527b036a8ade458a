/// A table of words and numbers for a terminal.
#pragma once

#include <string>
#include <vector>

namespace llama {

/// One line per row, all of equal length. The first column is aligned to the left, the others to
/// the right.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace llama
