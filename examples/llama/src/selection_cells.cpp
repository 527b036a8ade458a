#include "selection_cells.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace llama {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

KeyScale KeyScale::fit(std::int64_t num_keys, std::int64_t block_k, std::int64_t width) {
  KeyScale scale{};
  scale.keys_per_bin = ceil_div(num_keys, width * block_k) * block_k;
  scale.bins = ceil_div(num_keys, scale.keys_per_bin);
  scale.bin_width = std::max<std::int64_t>(1, width / scale.bins);
  return scale;
}

void SelectionCells::add(const char* colour, std::int64_t first_bin, std::int64_t end_bin) {
  // A horizontal stroke in units of cells: the most compact form that SVG has for many cells.
  if (first_bin < end_bin) {
    paths_[colour] += fmt::format("M{} {}h{}", first_bin, rows_, end_bin - first_bin);
  }
}

void SelectionCells::add_row(const SelectionEntry& selection) {
  const auto end_bin = [&](std::int64_t key) {
    return std::min(scale_.bins, ceil_div(key, scale_.keys_per_bin));
  };
  add(kAttendedColour, 0, end_bin(std::min(selection.sink, selection.end)));
  add(kAttendedColour, selection.window_start / scale_.keys_per_bin, end_bin(selection.end));

  std::vector<std::int64_t> selected(scale_.bins);
  for (const std::int64_t block : selection.blocks) {
    const std::int64_t bin = block * selection.block_k / scale_.keys_per_bin;
    if (bin < scale_.bins) selected[bin] += selection.block_k;
  }
  const auto level = [&](std::int64_t bin) {  // 0: none, else 1 to the number of colours
    const auto colours = static_cast<std::int64_t>(kSelectedColours.size());
    return ceil_div(selected[bin] * colours, scale_.keys_per_bin);
  };
  for (std::int64_t bin = 0; bin < scale_.bins;) {
    std::int64_t end = bin + 1;
    while (end < scale_.bins && level(end) == level(bin)) ++end;
    if (level(bin) > 0) add(kSelectedColours[level(bin) - 1], bin, end);
    bin = end;
  }
  ++rows_;
}

std::string SelectionCells::svg(double left, double top, double row_height) const {
  std::string svg = fmt::format(
      "<g transform=\"translate({} {}) scale({} {}) translate(0 0.5)\" "
      "shape-rendering=\"crispEdges\" fill=\"none\">\n",
      left, top, scale_.bin_width, row_height);
  const auto draw = [&](const char* colour) {
    if (const auto it = paths_.find(colour); it != paths_.end()) {
      svg += fmt::format("<path stroke=\"{}\" d=\"{}\"/>\n", colour, it->second);
    }
  };
  draw(kAttendedColour);
  for (const char* colour : kSelectedColours) draw(colour);
  return svg + "</g>\n";
}

}  // namespace llama
