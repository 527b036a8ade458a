/// A picture of what one retrieval head selected in the recall test.
#pragma once

#include <string>

#include "recall.hpp"
#include "retrieval_head.hpp"

namespace llama {

/// An SVG file: which keys the head's query blocks selected, over the text and for each question.
std::string draw_selections(const RecallTask& task, const RecallResult& result,
                            const RetrievalHead& head);

}  // namespace llama
