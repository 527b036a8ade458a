/// Runs tasks under one kind of attention.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "attention.hpp"
#include "engine.hpp"
#include "ruler_task.hpp"
#include "tokenizer.hpp"

namespace llama {

struct RulerResult {
  std::string generated;  ///< greedily, up to new_tokens or a token that ends generation
  StringMatch match;
  // Of RulerTask::answer, given the prompt:
  double answer_nll = 0;    ///< mean over its tokens
  double answer_right = 0;  ///< the share of its tokens that are the likeliest after those before
};

/// Feeds each prompt but for its last token, and decodes all answers together. `ends` are the
/// tokens that end generation. What is said of the given answer comes from a sequence that shares
/// the prompt's pages.
std::vector<RulerResult> run_ruler_tasks(const Model& model, const Tokenizer& tokenizer,
                                         std::span<const RulerTask> tasks,
                                         std::span<const TokenId> ends,
                                         const AttentionOptions& attention, EngineOptions options,
                                         const std::string& label);

}  // namespace llama
