/// A model of llama.cpp's KV cells: what stands in them, what its functions do to them, and what
/// its attention mask lets a token see. The names that docs/guide/ggml.md uses are llama.cpp's.
#pragma once

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace hip_attn::test {

using llama_pos = std::int32_t;
using llama_seq_id = std::int32_t;

inline constexpr llama_seq_id kMaxSequences = 8;

enum llama_swa_type {
  LLAMA_SWA_TYPE_NONE,
  LLAMA_SWA_TYPE_STANDARD,
  LLAMA_SWA_TYPE_CHUNKED,
  LLAMA_SWA_TYPE_SYMMETRIC,
};

/// The place of an image's token in the image (M-RoPE).
struct llama_kv_cell_ext {
  llama_pos x = 0;
  llama_pos y = 0;
};

/// The tokens of one graph. Their positions have one part, or with M-RoPE three, the parts of all
/// tokens one after the other: position, y, x.
struct llama_ubatch {
  std::uint32_t n_tokens = 0;
  std::uint32_t n_pos = 1;
  std::vector<llama_pos> pos;                     ///< [n_pos, n_tokens]
  std::vector<std::vector<llama_seq_id>> seq_id;  ///< [n_tokens]

  [[nodiscard]] bool is_pos_2d() const { return n_pos >= 3; }
};

/// The cells of one stream. A cell without sequences is empty.
class llama_kv_cells {
 public:
  explicit llama_kv_cells(std::uint32_t size) : cells_(size) {}

  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(cells_.size()); }
  [[nodiscard]] bool is_empty(std::uint32_t i) const { return cells_[i].sequences.none(); }
  [[nodiscard]] bool seq_has(std::uint32_t i, llama_seq_id seq) const {
    return cells_[i].sequences.test(seq);
  }
  [[nodiscard]] std::size_t seq_count(std::uint32_t i) const { return cells_[i].sequences.count(); }
  [[nodiscard]] llama_pos pos_get(std::uint32_t i) const { return cells_[i].pos; }
  [[nodiscard]] const llama_kv_cell_ext& ext_get(std::uint32_t i) const { return cells_[i].ext; }
  [[nodiscard]] std::uint32_t used_max_p1() const {
    std::uint32_t end = size();
    while (end > 0 && is_empty(end - 1)) --end;
    return end;
  }
  /// -1: the sequence has no cell.
  [[nodiscard]] llama_pos seq_pos_max(llama_seq_id seq) const {
    llama_pos last = -1;
    for (const Cell& cell : cells_) {
      if (cell.sequences.test(seq)) last = std::max(last, cell.pos);
    }
    return last;
  }

  void set(std::uint32_t i, llama_pos pos, llama_kv_cell_ext ext,
           const std::vector<llama_seq_id>& sequences) {
    cells_[i] = {pos, ext, {}};
    for (const llama_seq_id seq : sequences) cells_[i].sequences.set(seq);
  }
  void seq_add(std::uint32_t i, llama_seq_id seq) { cells_[i].sequences.set(seq); }
  void seq_rm(std::uint32_t i, llama_seq_id seq) { cells_[i].sequences.reset(seq); }
  void rm(std::uint32_t i) { cells_[i].sequences.reset(); }
  /// Moves the cell for all of its sequences; before position 0 there is none.
  void pos_add(std::uint32_t i, llama_pos delta) {
    cells_[i].pos += delta;
    if (cells_[i].pos < 0) rm(i);
  }

 private:
  struct Cell {
    llama_pos pos = -1;
    llama_kv_cell_ext ext;
    std::bitset<kMaxSequences> sequences;
  };
  std::vector<Cell> cells_;
};

/// One stream that all sequences share (unified), or one for each sequence.
class llama_kv_cache {
 public:
  llama_kv_cache(bool unified, std::uint32_t size)
      : cells_(unified ? 1 : kMaxSequences, llama_kv_cells(size)) {}

  [[nodiscard]] std::uint32_t get_size() const { return cells_[0].size(); }
  [[nodiscard]] std::uint32_t get_n_stream() const {
    return static_cast<std::uint32_t>(cells_.size());
  }
  [[nodiscard]] std::uint32_t get_stream(llama_seq_id seq) const {
    return get_n_stream() == 1 ? 0 : static_cast<std::uint32_t>(seq);
  }
  [[nodiscard]] const llama_kv_cells& get_cells(llama_seq_id seq) const {
    return cells_[get_stream(seq)];
  }
  [[nodiscard]] llama_kv_cells& cells(llama_seq_id seq) { return cells_[get_stream(seq)]; }

  /// Takes positions [first, end) from a sequence.
  void seq_rm(llama_seq_id seq, llama_pos first, llama_pos end) {
    for_each(seq, first, end, [&](llama_kv_cells& of, std::uint32_t i) { of.seq_rm(i, seq); });
  }
  /// Shares them with another one, of the same stream.
  void seq_cp(llama_seq_id from, llama_seq_id to, llama_pos first, llama_pos end) {
    for_each(from, first, end, [&](llama_kv_cells& of, std::uint32_t i) { of.seq_add(i, to); });
  }
  /// Moves them.
  void seq_add(llama_seq_id seq, llama_pos first, llama_pos end, llama_pos delta) {
    for_each(seq, first, end, [&](llama_kv_cells& of, std::uint32_t i) { of.pos_add(i, delta); });
  }

 private:
  template <typename Change>
  void for_each(llama_seq_id seq, llama_pos first, llama_pos end, const Change& change) {
    llama_kv_cells& of = cells(seq);
    for (std::uint32_t i = 0; i < of.size(); ++i) {
      const llama_pos pos = of.pos_get(i);
      if (!of.is_empty(i) && of.seq_has(i, seq) && pos >= first && pos < end) change(of, i);
    }
  }

  std::vector<llama_kv_cells> cells_;
};

/// The mask's rule for sliding windows: whether a row at position `row` must not see `key`.
inline bool is_masked_swa(llama_swa_type type, llama_pos n_swa, llama_pos key, llama_pos row) {
  switch (type) {
    case LLAMA_SWA_TYPE_STANDARD:
      return row - key >= n_swa;
    case LLAMA_SWA_TYPE_CHUNKED:
      return key < row / n_swa * n_swa;
    case LLAMA_SWA_TYPE_SYMMETRIC:
      return std::abs(row - key) > n_swa / 2;
    default:
      return false;
  }
}

/// The mask of a causal layer: whether token i of the ubatch sees a cell of its stream.
inline bool mask_admits(const llama_ubatch& ubatch, std::uint32_t i, const llama_kv_cells& cells,
                        std::uint32_t cell, llama_swa_type type, llama_pos n_swa) {
  // Only the first of a token's sequences counts.
  if (cells.is_empty(cell) || !cells.seq_has(cell, ubatch.seq_id[i][0])) return false;
  const llama_pos key = cells.pos_get(cell);
  const llama_pos row = ubatch.pos[i];
  if (key > row) return false;
  if (ubatch.is_pos_2d() && key == row) {
    const llama_kv_cell_ext& ext = cells.ext_get(cell);
    const llama_pos y = ubatch.pos[i + ubatch.n_tokens];
    const llama_pos x = ubatch.pos[i + 2 * ubatch.n_tokens];
    if (ext.y > y || (ext.y == y && ext.x > x)) return false;
  }
  return !is_masked_swa(type, n_swa, key, row);
}

}  // namespace hip_attn::test
