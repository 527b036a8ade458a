#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace llama {

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string table;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      table += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                      : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    table += '\n';
  }
  return table;
}

}  // namespace llama
