/// Runs the recall test under one kind of attention.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention.hpp"
#include "engine.hpp"
#include "recall_task.hpp"
#include "selection_log.hpp"
#include "stopwatch.hpp"

namespace llama {

struct RecallResult {
  AttentionMode mode = AttentionMode::kHip;
  TimedRun run;                      ///< "hip infinite_hip"; text, questions and answers
  std::vector<std::string> answers;  ///< by fact
  std::int64_t codes = 0;            ///< asked for
  std::int64_t digits = 0;           ///< of all codes
  std::int64_t codes_right = 0;
  std::int64_t digits_right = 0;  ///< digits of the answers that are the code's at their place
  /// Mean over the later three quarters of the text, facts included: in the first quarter a search
  /// has little to leave out.
  double nll = 0;
  AttentionStats text_stats;  ///< of feeding the text
  /// Selections of hip's layers, recorded on request: of the text's query blocks, and of the decode
  /// steps that look for the first digits (`sequence` is the fact).
  std::vector<SelectionEntry> text_selections;
  std::vector<SelectionEntry> question_selections;
};

/// Feeds the text once, then asks all questions together: each is a sequence that shares the text's
/// pages. Answers are decoded greedily, one token per digit.
RecallResult run_recall(const Model& model, const Tokenizer& tokenizer, const RecallTask& task,
                        const AttentionOptions& attention, const EngineOptions& options,
                        const std::string& label, bool record_selections);

}  // namespace llama
