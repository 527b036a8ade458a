/// What `llama evaluate` has measured: tables that compare kinds of attention, and JSON.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "json_file.hpp"
#include "ruler_run.hpp"
#include "ruler_task.hpp"
#include "text_quality.hpp"

namespace llama {

/// One kind of attention at one length. All that are compared have the same texts and tasks.
struct QualitySeries {
  std::string label;
  bool is_dense = false;
  std::vector<TextQuality> texts;    ///< by seed
  std::vector<RulerResult> results;  ///< by task
};

/// One line per series, means over the texts. The columns are defined in docs/guide/quality.md.
std::string format_text_quality(std::span<const QualitySeries> all, std::int64_t top_keys);

/// One line per series: the score of each kind of task in percent, their mean, and of the given
/// answers the tokens that are the likeliest, in percent, and the likelihood in nats per token.
std::string format_task_scores(std::span<const QualitySeries> all,
                               std::span<const RulerTask> tasks);

Json to_json(const TextQuality& quality, std::int64_t context, std::uint64_t seed);
Json to_json(const RulerTask& task, const RulerResult& result, const std::string& label);

/// A task as a line of RULER's files has it ("input", "answer_prefix", "outputs"), and what a
/// program that runs it needs besides.
Json to_json(const RulerTask& task);

}  // namespace llama
