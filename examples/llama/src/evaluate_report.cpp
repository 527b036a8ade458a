#include "evaluate_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text_nll.hpp"
#include "text_table.hpp"

namespace llama {
namespace {

const QualitySeries* dense_of(std::span<const QualitySeries> all) {
  for (const QualitySeries& series : all) {
    if (series.is_dense) return &series;
  }
  return nullptr;
}

/// The mean of value(element) over a list.
template <typename Element, typename Value>
double mean_of(const std::vector<Element>& elements, Value&& value) {
  std::vector<double> values;
  for (const Element& element : elements) values.push_back(value(element));
  return mean(values);
}

std::string above(double value, const QualitySeries& series, const QualitySeries* dense,
                  double of_dense) {
  return dense && dense != &series ? fmt::format("{:+.4f}", value - of_dense) : "";
}

std::string share(const AttentionQuality::ByHead& shares) {
  return fmt::format("{:.4f}", mean_share(shares));
}

std::string least(const AttentionQuality::ByHead& shares) {
  const HeadShare head = least_share(shares);
  return fmt::format("{:.4f} ({}.{})", head.share, head.layer, head.head);
}

/// Means over the texts, head by head.
AttentionQuality mean_quality(const std::vector<TextQuality>& texts) {
  AttentionQuality sum = texts.front().attention;
  const auto count = static_cast<double>(texts.size());
  for (auto part : {&AttentionQuality::mass, &AttentionQuality::top}) {
    for (std::size_t layer = 0; layer < (sum.*part).size(); ++layer) {
      for (std::size_t head = 0; head < (sum.*part)[layer].size(); ++head) {
        (sum.*part)[layer][head] = 0;
        for (const TextQuality& text : texts) {
          (sum.*part)[layer][head] += (text.attention.*part)[layer][head] / count;
        }
      }
    }
  }
  return sum;
}

/// Five decimals are more than the sampled rows tell.
AttentionQuality::ByHead rounded(AttentionQuality::ByHead shares) {
  for (auto& heads : shares) {
    for (double& share : heads) share = std::round(share * 1e5) / 1e5;
  }
  return shares;
}

double mean_nll(const QualitySeries& series) {
  return mean_of(series.texts, [](const TextQuality& text) { return text.nll; });
}

double mean_answer_nll(const QualitySeries& series) {
  return mean_of(series.results, [](const RulerResult& result) { return result.answer_nll; });
}

}  // namespace

std::string format_text_quality(std::span<const QualitySeries> all, std::int64_t top_keys) {
  const QualitySeries* dense = dense_of(all);
  std::vector<std::vector<std::string>> rows = {
      {"attention", "NLL", "above dense", "keys per row", "search reads", "mass",
       "least (layer.head)", fmt::format("top {}", top_keys), "least (layer.head)"}};
  for (const QualitySeries& series : all) {
    const double nll = mean_nll(series);
    const AttentionQuality quality = mean_quality(series.texts);
    const auto stat = [&](double (AttentionStats::*value)() const noexcept) {
      return fmt::format("{:.0f}", mean_of(series.texts, [&](const TextQuality& text) {
                           return (text.stats.*value)();
                         }));
    };
    rows.push_back({series.label, fmt::format("{:.4f}", nll),
                    above(nll, series, dense, dense ? mean_nll(*dense) : 0),
                    stat(&AttentionStats::keys_per_row), stat(&AttentionStats::search_reads),
                    share(quality.mass), least(quality.mass), share(quality.top),
                    least(quality.top)});
  }
  return format_table(rows);
}

std::string format_task_scores(std::span<const QualitySeries> all,
                               std::span<const RulerTask> tasks) {
  const QualitySeries* dense = dense_of(all);
  std::vector<RulerKind> kinds;
  std::vector<std::vector<std::string>> rows = {{"attention"}};
  for (const RulerTask& task : tasks) {
    if (std::find(kinds.begin(), kinds.end(), task.kind) != kinds.end()) continue;
    kinds.push_back(task.kind);
    rows.front().emplace_back(to_string(task.kind));
  }
  rows.front().insert(rows.front().end(),
                      {"mean", "answers' tokens", "answers' NLL", "above dense"});
  for (const QualitySeries& series : all) {
    auto& row = rows.emplace_back(std::vector<std::string>{series.label});
    std::vector<double> means;
    for (const RulerKind kind : kinds) {
      std::vector<double> scores;
      for (std::size_t i = 0; i < tasks.size(); ++i) {
        if (tasks[i].kind == kind) scores.push_back(100 * series.results[i].match.all);
      }
      means.push_back(mean(scores));
      row.push_back(fmt::format("{:.1f}", means.back()));
    }
    const double nll = mean_answer_nll(series);
    row.push_back(fmt::format("{:.1f}", mean(means)));
    row.push_back(fmt::format("{:.1f}", 100 * mean_of(series.results, [](const auto& result) {
                                          return result.answer_right;
                                        })));
    row.push_back(fmt::format("{:.4f}", nll));
    row.push_back(above(nll, series, dense, dense ? mean_answer_nll(*dense) : 0));
  }
  return format_table(rows);
}

Json to_json(const TextQuality& quality, std::int64_t context, std::uint64_t seed) {
  return {{"context", context},
          {"seed", seed},
          {"attention", quality.label},
          {"nll", quality.nll},
          {"search_reads", quality.stats.search_reads()},
          {"attention_reads", quality.stats.attention_reads()},
          {"keys_per_row", quality.stats.keys_per_row()},
          {"mass", rounded(quality.attention.mass)},
          {"top", rounded(quality.attention.top)}};
}

Json to_json(const RulerTask& task, const RulerResult& result, const std::string& label) {
  return {{"task", to_string(task.kind)},
          {"context", task.context},
          {"seed", task.seed},
          {"prompt_tokens", task.tokens.size()},
          {"attention", label},
          {"all", result.match.all},
          {"part", result.match.part},
          {"answer_nll", result.answer_nll},
          {"answer_right", result.answer_right},
          {"outputs", task.outputs},
          {"generated", result.generated}};
}

Json to_json(const RulerTask& task) {
  return {{"task", to_string(task.kind)},
          {"context", task.context},
          {"seed", task.seed},
          {"input", task.input},
          {"answer_prefix", task.answer_prefix},
          {"outputs", task.outputs},
          {"answer", task.answer},
          {"new_tokens", task.new_tokens},
          {"length", std::ssize(task.tokens) + task.new_tokens}};
}

}  // namespace llama
