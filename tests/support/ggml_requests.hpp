/// The first half of docs/guide/ggml.md's adapter: from llama.cpp's cells to requests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "hip_attn/hip_attn.hpp"
#include "llama_cells.hpp"

namespace hip_attn::test::ggml_adapter {

// [ggml-keys]
/// Where a key or a row stands. Only M-RoPE has tokens at one position: those of an image, whose y
/// and x begin at it.
inline std::int64_t place(llama_pos pos, llama_pos y, llama_pos x) {
  const auto wide = [](llama_pos value) { return static_cast<std::int64_t>(value); };
  return wide(pos) * (std::int64_t{1} << 32) + (wide(y) - pos) * 65536 + (wide(x) - pos);
}

/// The lists that a CellBatch points at.
struct CellLists {
  std::vector<std::int32_t> key_sequences, key_pages, row_sequences;
  std::vector<std::int64_t> key_positions, row_positions, row_first;
};

/// Adds the keys of a sequence. K and V begin at the cells of first_stream.
inline void add_keys(const llama_kv_cache& cache, llama_seq_id seq, bool is_2d,
                     std::uint32_t first_stream, CellLists& lists) {
  const llama_kv_cells& cells = cache.get_cells(seq);
  const std::uint32_t first_page = (cache.get_stream(seq) - first_stream) * cache.get_size();
  const std::uint32_t end = cells.used_max_p1();
  for (std::uint32_t cell = 0; cell < end; ++cell) {
    if (cells.is_empty(cell) || !cells.seq_has(cell, seq)) continue;
    const llama_pos pos = cells.pos_get(cell);
    lists.key_sequences.push_back(seq);
    lists.key_positions.push_back(is_2d ? place(pos, cells.ext_get(cell).y, cells.ext_get(cell).x)
                                        : place(pos, pos, pos));
    lists.key_pages.push_back(static_cast<std::int32_t>(first_page + cell));
  }
}
// [ggml-keys]

// [ggml-mask]
/// The earliest position that a row at `pos` sees.
inline llama_pos earliest_seen(llama_swa_type type, llama_pos n_swa, llama_pos pos) {
  switch (type) {
    case LLAMA_SWA_TYPE_STANDARD:
      return pos - n_swa + 1;
    case LLAMA_SWA_TYPE_CHUNKED:
      return pos / n_swa * n_swa;
    case LLAMA_SWA_TYPE_SYMMETRIC:  // of a causal layer
      return pos - n_swa / 2;
    default:
      return 0;
  }
}

/// The window that the layer's configuration needs: presets::sliding_window(window). 0: any.
inline std::int64_t window_of(llama_swa_type type, llama_pos n_swa) {
  if (type == LLAMA_SWA_TYPE_STANDARD) return n_swa;
  if (type == LLAMA_SWA_TYPE_SYMMETRIC) return n_swa / 2 + 1;
  return 0;
}
// [ggml-mask]

// [ggml-requests]
/// `config` is that of decode.
inline Status requests_of(const llama_ubatch& ubatch, const llama_kv_cache& cache,
                          llama_swa_type type, llama_pos n_swa, const HipConfig& config,
                          CellRequests& requests) {
  CellLists lists;
  std::vector<llama_seq_id> sequences;
  std::uint32_t first_stream = cache.get_n_stream();
  const auto n_tokens = ubatch.n_tokens;
  for (std::uint32_t i = 0; i < n_tokens; ++i) {
    const llama_seq_id seq = ubatch.seq_id[i][0];  // the others see the token's key, not its row
    const llama_pos pos = ubatch.pos[i];
    const llama_pos first = earliest_seen(type, n_swa, pos);
    lists.row_sequences.push_back(seq);
    lists.row_positions.push_back(
        ubatch.is_pos_2d() ? place(pos, ubatch.pos[i + n_tokens], ubatch.pos[i + 2 * n_tokens])
                           : place(pos, pos, pos));
    lists.row_first.push_back(place(first, first, first));
    first_stream = std::min(first_stream, cache.get_stream(seq));
    if (std::ranges::find(sequences, seq) == sequences.end()) sequences.push_back(seq);
  }
  for (const llama_seq_id seq : sequences) {
    add_keys(cache, seq, ubatch.is_pos_2d(), first_stream, lists);
  }
  return make_cell_requests({.key_sequences = lists.key_sequences,
                             .key_positions = lists.key_positions,
                             .key_pages = lists.key_pages,
                             .row_sequences = lists.row_sequences,
                             .row_positions = lists.row_positions,
                             .row_first = lists.row_first,
                             .window = window_of(type, n_swa),
                             .config = &config},
                            requests);
}
// [ggml-requests]

}  // namespace hip_attn::test::ggml_adapter
