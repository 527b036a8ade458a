/// The prompts of ruler_task.hpp for a given amount of filling.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "haystack.hpp"
#include "ruler_task.hpp"

namespace llama {

struct RulerDraft {
  std::string input;
  std::string answer_prefix;
  std::vector<std::string> outputs;
  std::string answer;
};

struct RulerFormat {
  std::int64_t least_units = 1;
  std::int64_t new_tokens = 0;  ///< RULER's number
  /// The prompt with so many units of filling. The same seed has the same outputs and, in longer
  /// prompts, the same beginning of what fills them.
  std::function<RulerDraft(std::int64_t units)> draft;
};

/// count_tokens: of a text. The formats refer to the haystack, which has to outlive them.
RulerFormat ruler_format(RulerKind kind, const Haystack& haystack, std::int64_t context,
                         std::uint64_t seed,
                         const std::function<std::int64_t(std::string_view)>& count_tokens);

/// The largest number of units, from `least` on, whose length is at most `budget`. length(units)
/// grows about linearly and is called few times. Below `least`: it does not fit.
std::int64_t most_units(std::int64_t least, std::int64_t budget,
                        const std::function<std::int64_t(std::int64_t)>& length);

}  // namespace llama
