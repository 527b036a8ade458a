#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "text_nll.hpp"
#include "text_table.hpp"

namespace llama {
namespace {

double search_reads(const RecallResult& result) { return result.text_stats.search_reads(); }
double attention_reads(const RecallResult& result) { return result.text_stats.attention_reads(); }
double keys_per_row(const RecallResult& result) { return result.text_stats.keys_per_row(); }

template <typename Value>
std::vector<double> values_of(const RecallSeries& series, const Value& value) {
  std::vector<double> values;
  for (const RecallResult& result : series) values.push_back(static_cast<double>(value(result)));
  return values;
}

template <typename Value>
double mean_of(const RecallSeries& series, const Value& value) {
  return mean(values_of(series, value));
}

/// "14", or "14.3 (14 to 15)" of several; `digits` and `sign` of every number.
std::string with_spread(const std::vector<double>& values, int digits, bool sign = false) {
  const auto number = [&](double value, int digits) {
    return sign ? fmt::format("{:+.{}f}", value, digits) : fmt::format("{:.{}f}", value, digits);
  };
  if (values.size() == 1) return number(values.front(), digits);
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{} ({} to {})", number(mean(values), std::max(1, digits)),
                     number(*least, digits), number(*most, digits));
}

std::string above(const RecallSeries& series, const RecallSeries* dense) {
  if (!dense || dense == &series) return "";
  std::vector<double> differences;
  for (std::size_t i = 0; i < series.size(); ++i) {
    differences.push_back(series[i].nll - (*dense)[i].nll);
  }
  return with_spread(differences, 4, /*sign=*/true);
}

}  // namespace

std::string format_report(std::span<const RecallSeries> all) {
  const RecallSeries* dense = nullptr;
  for (const RecallSeries& series : all) {
    if (series.front().mode == AttentionMode::kDense) dense = &series;
  }
  const RecallResult& any = all.front().front();
  std::vector<std::vector<std::string>> rows = {{"attention", fmt::format("codes of {}", any.codes),
                                                 fmt::format("digits of {}", any.digits), "NLL",
                                                 "above dense", "search reads", "attention reads",
                                                 "keys per row", "s of attention", "s in all"}};
  for (const RecallSeries& series : all) {
    const auto number = [&](const char* format, const auto& value) {
      return fmt::format(fmt::runtime(format), mean_of(series, value));
    };
    rows.push_back(
        {series.front().run.label,
         with_spread(values_of(series, [](const auto& result) { return result.codes_right; }), 0),
         with_spread(values_of(series, [](const auto& result) { return result.digits_right; }), 0),
         number("{:.4f}", [](const auto& result) { return result.nll; }), above(series, dense),
         number("{:.0f}", search_reads), number("{:.0f}", attention_reads),
         number("{:.0f}", keys_per_row),
         format_seconds(
             mean_of(series, [](const auto& result) { return result.run.parts.attention(); })),
         format_seconds(mean_of(series, [](const auto& result) { return result.run.total; }))});
  }
  return format_table(rows);
}

std::string format_times(std::span<const RecallSeries> all) {
  std::vector<TimedRun> runs;
  for (const RecallSeries& series : all) {
    TimedRun& sum = runs.emplace_back();
    sum.label = series.front().run.label;
    for (const RecallResult& result : series) {
      sum.parts += result.run.parts;
      sum.total += result.run.total;
    }
    const auto count = static_cast<double>(series.size());
    for (double& seconds : sum.parts.seconds) seconds /= count;
    sum.total /= count;
  }
  return format_times(std::span<const TimedRun>(runs));
}

Json to_json(const RecallTask& task, const RecallResult& result) {
  return {{"context", task.context},
          {"seed", task.seed},
          {"text_tokens", task.text.size()},
          {"attention", result.run.label},
          {"codes", result.codes},
          {"codes_right", result.codes_right},
          {"digits", result.digits},
          {"digits_right", result.digits_right},
          {"nll", result.nll},
          {"search_reads", search_reads(result)},
          {"attention_reads", attention_reads(result)},
          {"keys_per_row", keys_per_row(result)},
          {"attention_seconds", result.run.parts.attention()},
          {"seconds", result.run.total}};
}

}  // namespace llama
