/// The cells of a selection picture: one row per selection, one column per bin of keys.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "selection_log.hpp"

namespace llama {

inline constexpr const char* kAttendedColour = "#d9dde3";  ///< sink and window
/// From a few to all of a cell's keys selected.
inline constexpr std::array<const char*, 4> kSelectedColours = {"#9ecae1", "#4f9bcb", "#2171b5",
                                                                "#08306b"};

/// The horizontal axis: whole pixels per bin and whole blocks per bin, so that every cell is crisp.
struct KeyScale {
  std::int64_t keys_per_bin;
  std::int64_t bins;
  std::int64_t bin_width;  ///< pixels

  /// At most `width` pixels for num_keys keys.
  static KeyScale fit(std::int64_t num_keys, std::int64_t block_k, std::int64_t width);

  [[nodiscard]] double width() const { return static_cast<double>(bins * bin_width); }
  [[nodiscard]] double x(std::int64_t key) const {
    return static_cast<double>(key * bin_width) / static_cast<double>(keys_per_bin);
  }
};

class SelectionCells {
 public:
  explicit SelectionCells(const KeyScale& scale) : scale_(scale) {}

  /// Adds a row: the selection's sink, window and selected blocks.
  void add_row(const SelectionEntry& selection);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }

  /// The rows from (left, top) downwards, each row_height pixels high.
  [[nodiscard]] std::string svg(double left, double top, double row_height) const;

 private:
  void add(const char* colour, std::int64_t first_bin, std::int64_t end_bin);

  KeyScale scale_;
  std::int64_t rows_ = 0;
  std::map<std::string, std::string> paths_;  // by colour
};

}  // namespace llama
