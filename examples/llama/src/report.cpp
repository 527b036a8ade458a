#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace llama {
namespace {

double ratio(std::int64_t sum, std::int64_t count) {
  return static_cast<double>(sum) / static_cast<double>(std::max<std::int64_t>(1, count));
}

}  // namespace

std::string format_report(const RecallTask& task, std::span<const RecallResult> results) {
  std::int64_t digits = 0;
  for (const Fact& fact : task.facts) digits += static_cast<std::int64_t>(fact.code.size());
  std::size_t width = 9;
  for (const RecallResult& result : results) width = std::max(width, result.run.label.size());

  std::string table;
  const auto line = [&](auto&&... cells) {
    table +=
        fmt::format("{:<{}}  {:>6}  {:>6}  {:>6}  {:>9}  {:>9}  {:>8}  {:>9}  {:>7}\n", cells...);
  };
  line("", width, "codes", "digits", "", "keys read", "per query", "attended", "seconds of",
       "seconds");
  line("attention", width, fmt::format("of {}", task.facts.size()), fmt::format("of {}", digits),
       "NLL", "by search", "by attend", "per row", "attention", "in all");
  for (const RecallResult& result : results) {
    const AttentionStats& stats = result.text_stats;
    line(result.run.label, width, fmt::to_string(result.codes_right),
         fmt::to_string(result.digits_right), fmt::format("{:.4f}", result.nll),
         fmt::format("{:.0f}", ratio(stats.search_keys_read, stats.units)),
         fmt::format("{:.0f}", ratio(stats.attention_keys_read, stats.units)),
         fmt::format("{:.0f}", ratio(stats.keys_attended, stats.rows)),
         format_seconds(result.run.parts.attention()), format_seconds(result.run.total));
  }
  return table;
}

}  // namespace llama
