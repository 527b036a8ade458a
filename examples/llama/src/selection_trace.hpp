/// What decode asks of a KV cache, step by step, in a file: the trace on which replacement policies
/// of a store are compared (docs/lab/offload.md). bench/kv_trace.py reads it.
///
/// A line of JSON that describes the run, then a record for each decode step, layer and KV head, in
/// this order, to the end of the file:
///
///   flags       bit 0: the search's candidates changed; bit 1: the selected blocks changed
///   with bit 0  W0, log2 of the chunk size, and the list of the chunks that the last stage cuts
///   with bit 1  the list of the blocks that attention reads beside sink and window
///
/// All are unsigned LEB128 numbers. A list is its length, then ascending numbers as differences,
/// the first to 0: first keys of chunks, and block numbers (token / block_k). What did not change
/// is not written again: the first record of each layer and head has both bits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention.hpp"
#include "json_file.hpp"

namespace llama {

/// A layer's cached search of one KV head.
struct TracedSearch {
  std::int32_t window_start = 0;
  std::int32_t chunk_shift = 0;
  std::vector<std::int32_t> chunks;  ///< first keys of what the last stage cuts
  std::vector<std::int32_t> blocks;  ///< selected
};

/// Writes the decode steps of one sequence.
class SelectionTrace {
 public:
  /// `header` gets the shape of model and configuration. Errors: kInvalidArgument when the file
  /// cannot be written or the attention keeps no search.
  SelectionTrace(const std::filesystem::path& path, Json header, const LlamaConfig& model,
                 const Attention& attention);

  /// For Attention::observe_selections; refers to this object.
  [[nodiscard]] SelectionObserver observer();
  /// Bytes of the file. kInvalidArgument when not all could be written.
  std::int64_t close();

 private:
  void write(std::int64_t layer, std::int64_t kv_head, const TracedSearch& search);

  std::filesystem::path path_;
  const Attention& attention_;
  std::ofstream file_;
  std::map<std::pair<std::int64_t, std::int64_t>, TracedSearch> before_;  // by layer and KV head
};

}  // namespace llama
