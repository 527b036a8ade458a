/// What the recall test gave: a table that compares kinds of attention, and JSON.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "json_file.hpp"
#include "recall.hpp"

namespace llama {

/// The results of one kind of attention at one length, by seed. All that are compared have the same
/// seeds.
using RecallSeries = std::vector<RecallResult>;

/// One line per series: means, with the least and the most where there are several seeds. The
/// columns are defined in docs/guide/demo.md.
std::string format_report(std::span<const RecallSeries> all);

/// The seconds of every part, means over the seeds.
std::string format_times(std::span<const RecallSeries> all);

/// Everything that format_report shows, of one run.
Json to_json(const RecallTask& task, const RecallResult& result);

}  // namespace llama
