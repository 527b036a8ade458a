#include "retrieval_head.hpp"

#include <utility>

namespace llama {

std::map<std::int64_t, const SelectionEntry*> question_selections(const RecallResult& result,
                                                                  const RetrievalHead& head) {
  std::map<std::int64_t, const SelectionEntry*> selections;
  for (const SelectionEntry& entry : result.question_selections) {
    if (entry.layer == head.layer && entry.kv_head == head.kv_head) {
      selections[entry.sequence] = &entry;
    }
  }
  return selections;
}

bool is_searchable(const SelectionEntry& selection, const Fact& fact) {
  return fact.code_begin >= selection.sink && fact.code_begin < selection.window_start;
}

bool holds_code(const SelectionEntry& selection, const Fact& fact) {
  return selection.selects(fact.code_begin,
                           fact.code_begin + static_cast<std::int64_t>(fact.code.size()));
}

RetrievalHead find_retrieval_head(const RecallTask& task, const RecallResult& result) {
  std::map<std::pair<std::int64_t, std::int64_t>, RetrievalHead> heads;
  for (const SelectionEntry& entry : result.question_selections) {
    heads[{entry.layer, entry.kv_head}] = {entry.layer, entry.kv_head};
  }
  RetrievalHead best;
  for (auto& [_, head] : heads) {
    for (const auto& [fact_number, selection] : question_selections(result, head)) {
      const Fact& fact = task.facts[fact_number];
      if (!is_searchable(*selection, fact)) continue;
      ++head.searchable;
      head.found += holds_code(*selection, fact);
    }
    if (head.found > best.found || best.searchable == 0) best = head;
  }
  return best;
}

}  // namespace llama
