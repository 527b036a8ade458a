/// What the search selected, kept for a picture.
#pragma once

#include <vector>

#include "attention.hpp"
#include "selection_entry.hpp"

namespace llama {

/// An observer that appends to `log`, which outlives it.
SelectionObserver log_selections(std::vector<SelectionEntry>& log);

}  // namespace llama
