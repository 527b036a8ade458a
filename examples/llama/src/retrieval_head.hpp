/// Which KV head looks the codes up.
#pragma once

#include <cstdint>
#include <map>

#include "recall.hpp"

namespace llama {

struct RetrievalHead {
  std::int64_t layer = 0;
  std::int64_t kv_head = 0;
  std::int64_t found = 0;       ///< questions whose selection held the asked code
  std::int64_t searchable = 0;  ///< questions whose code was among the candidates of the search
};

/// The KV head whose selections, when the first digit is looked for, most often held a block with
/// digits of the asked code; the earliest of equals. Codes in the sink or the window need no
/// selection and do not count.
RetrievalHead find_retrieval_head(const RecallTask& task, const RecallResult& result);

/// The head's selection for each question, by fact.
std::map<std::int64_t, const SelectionEntry*> question_selections(const RecallResult& result,
                                                                  const RetrievalHead& head);

bool is_searchable(const SelectionEntry& selection, const Fact& fact);
bool holds_code(const SelectionEntry& selection, const Fact& fact);

}  // namespace llama
