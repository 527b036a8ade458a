/// Requests for a cache whose cells know positions and sequences instead of lengths: llama.cpp's
/// and what is like it, and batches that are padded on the left.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "hip_attn/config.hpp"
#include "hip_attn/export.hpp"
#include "hip_attn/status.hpp"

namespace hip_attn {

/// What stands in the cells, and the rows that a call is to attend. Row i sees the keys of its
/// sequence at positions row_first(i) to row_positions(i). Only the order of positions counts, so
/// that those of several parts (M-RoPE) can be packed into one number. All memory is the host's.
struct CellBatch {
  /// A key is the content of one cell, and a cell is a page of one token. A cell that several
  /// sequences share has an entry for each. In any order; fastest where positions ascend within a
  /// sequence. Padding has no entry: the block table begins with the first real token.
  std::span<const std::int32_t> key_sequences;
  std::span<const std::int64_t> key_positions;
  std::span<const std::int32_t> key_pages;
  std::span<const std::int32_t> row_sequences;  ///< those of q, in the order that they have there
  std::span<const std::int64_t> row_positions;
  std::span<const std::int64_t> row_first = {};  ///< the first position that a row sees. Empty: any
  /// Where row_first is the begin of a sliding window: the number of keys of the configuration
  /// (presets::sliding_window), which is that of positions in the window. 0: row_first is no
  /// window.
  std::int64_t window = 0;
  /// Rows stay in the order that they have, and those of a sequence that do not stand together
  /// become several requests. Otherwise they are brought together: see CellRequests::rows.
  bool keep_order = false;
  /// That of decode, for refresh_from. Absent: there is none.
  const HipConfig* config = nullptr;
};

/// The same as arguments of prefill and decode. A request is a run of rows of one sequence, each of
/// which sees one key more than the row before.
struct CellRequests {
  std::vector<std::int32_t> seq_lens;      ///< [B]
  std::vector<std::int32_t> cu_seqlens_q;  ///< [B + 1]
  std::vector<std::int32_t> block_table;   ///< [B, max_seq_len], pages of one token
  std::int64_t max_seq_len = 0;
  std::vector<std::int32_t> rows;  ///< [total_q]: row i of the call is row rows[i] of the batch
  std::vector<std::int32_t> sequences;  ///< [B], for SelectionCache::slots
  /// [B], for SelectionCache: by the number of decode calls in a row over keys that were only added
  /// to, as far as the calls that were given this object tell. 0 after any other change of the
  /// cells. Empty without a config.
  std::vector<std::int32_t> refresh_from;
  bool in_order = true;  ///< rows are 0, 1, ...: q and out can be the batch's own
  bool decode = false;   ///< a decode call takes them: few rows each, and a sequence once

  struct Steps {
    std::int64_t count = 0;
    std::vector<std::int32_t> pages;  ///< that the sequence had
  };
  /// By sequence, kept from call to call. Erase a sequence whose cells were filled from elsewhere.
  std::map<std::int32_t, Steps> steps;
};

/// Requests follow the first rows of their sequences, or with keep_order the rows. A sequence is
/// more than one request where two of its rows see other than one key more: a hole in a sliding
/// window, a row_first that moves (chunks), two rows at one position. Give the same object for
/// every batch over a cache: it keeps its memory, and knows what refresh_from is. Cost: a pass over
/// the keys and, where positions do not ascend, a sort; B * max_seq_len numbers written. Errors:
/// kInvalidShape, kInvalidPage (negative), kInvalidScalar (window), kUnsupported (a window that
/// holds more than `window` keys, because some share a position), kOutOfMemory. After an error
/// there are no requests.
HIP_ATTN_API Status make_cell_requests(const CellBatch& batch, CellRequests& requests);

}  // namespace hip_attn
