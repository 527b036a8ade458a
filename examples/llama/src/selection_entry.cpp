#include "selection_entry.hpp"

#include <algorithm>

namespace llama {

bool SelectionEntry::selects(std::int64_t first, std::int64_t last) const {
  return std::any_of(blocks.begin(), blocks.end(), [&](std::int64_t block) {
    return block * block_k < last && (block + 1) * block_k > first;
  });
}

bool SelectionEntry::attends(std::int64_t key) const {
  return key < sink || key >= window_start ||
         std::binary_search(blocks.begin(), blocks.end(), key / block_k);
}

}  // namespace llama
