/// The selection of one query block and KV head, as plain data on the host.
#pragma once

#include <cstdint>
#include <vector>

namespace llama {

struct SelectionEntry {
  std::int64_t layer;
  std::int64_t kv_head;
  std::int64_t sequence;  ///< its place in the batch
  std::int64_t p0;        ///< position of the block's first row
  std::int64_t end;       ///< one past its last row
  std::int64_t sink;
  std::int64_t window_start;
  std::int64_t block_k;
  std::vector<std::int32_t> blocks;  ///< ascending

  /// Whether any of the keys [begin, end) is in a selected block.
  [[nodiscard]] bool selects(std::int64_t begin, std::int64_t end) const;
  /// Whether a row of the block attends to a key that does not lie after it.
  [[nodiscard]] bool attends(std::int64_t key) const;
};

}  // namespace llama
