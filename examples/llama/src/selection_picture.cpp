#include "selection_picture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "selection_cells.hpp"
#include "svg.hpp"

namespace llama {
namespace {

constexpr std::int64_t kPlotWidth = 960;   // pixels at most
constexpr std::int64_t kTextHeight = 560;  // pixels at most, more than one per query block
constexpr double kQuestionHeight = 18;
constexpr double kLeft = 96;
constexpr double kRight = 190;
constexpr double kTop = 150;
constexpr double kPanelGap = 64;
constexpr double kBottom = 50;

constexpr const char* kFactColour = "#e6550d";
constexpr const char* kMissedColour = "#c51b1b";
constexpr const char* kFoundColour = "#1a8a3a";
constexpr const char* kAxisColour = "#888";
constexpr const char* kBold = "font-weight=\"bold\"";
constexpr const char* kCentred = "text-anchor=\"middle\"";
constexpr const char* kRightAligned = "text-anchor=\"end\"";

/// A round number of tokens between ticks that gives 4 to 8 of them.
std::int64_t tick_step(std::int64_t num_keys) {
  std::int64_t step = 1024;
  while (num_keys / step > 8) step *= 2;
  return step;
}

std::string key_axis(const KeyScale& scale, std::int64_t num_keys, double y) {
  std::string svg;
  for (std::int64_t key = 0; key <= num_keys; key += tick_step(num_keys)) {
    const double x = kLeft + scale.x(key);
    svg += svg_line(x, y, x, y + 5, kAxisColour);
    svg += svg_text(x, y + 19, fmt::to_string(key), kCentred);
  }
  return svg;
}

std::string legend(double x, double y) {
  std::string svg;
  const auto label = [&](std::string_view words) {
    svg += svg_text(x + 6, y, words);
    x += 26 + 6.3 * static_cast<double>(words.size());
  };
  const auto swatch = [&](const char* colour) {
    svg += svg_rect(x, y - 10, 14, 12, colour);
    x += 14;
  };
  const auto ring = [&](const char* colour) {
    svg += svg_ring(x + 6, y - 4, 5, colour);
    x += 12;
  };
  for (const char* colour : kSelectedColours) swatch(colour);
  label("a few to all of a cell's keys selected");
  swatch(kAttendedColour);
  label("sink and window");
  svg += svg_line(x + 7, y - 11, x + 7, y + 3, kFactColour);
  x += 14;
  label("a hidden code");
  ring(kFoundColour);
  label("asked code attended");
  ring(kMissedColour);
  label("not");
  return svg;
}

/// One row per query block of the text, with the codes marked.
class TextPanel {
 public:
  TextPanel(const RecallTask& task, const RecallResult& result, const RetrievalHead& head)
      : task_(task) {
    for (const SelectionEntry& entry : result.text_selections) {
      if (entry.layer == head.layer && entry.kv_head == head.kv_head) rows_.push_back(&entry);
    }
    const auto num_rows = std::max<std::int64_t>(1, static_cast<std::int64_t>(rows_.size()));
    row_height_ = static_cast<double>(std::max<std::int64_t>(1, kTextHeight / num_rows));
  }

  [[nodiscard]] double height() const { return row_height_ * static_cast<double>(rows_.size()); }
  [[nodiscard]] std::int64_t block_k() const { return rows_.empty() ? 1 : rows_[0]->block_k; }

  [[nodiscard]] std::string svg(const KeyScale& scale, std::int64_t num_keys) const {
    SelectionCells cells(scale);
    std::string axis;
    for (const SelectionEntry* row : rows_) {
      const double y = kTop + row_height_ * static_cast<double>(cells.rows());
      cells.add_row(*row);
      if (row->p0 % tick_step(num_keys) != 0) continue;
      axis += svg_line(kLeft - 5, y, kLeft, y, kAxisColour);
      axis += svg_text(kLeft - 9, y + 4, fmt::to_string(row->p0), kRightAligned);
    }
    std::string svg = cells.svg(kLeft, kTop, row_height_) + axis;
    for (const Fact& fact : task_.facts) {
      const double x = kLeft + scale.x(fact.code_begin);
      svg += svg_line(x, kTop, x, kTop + height(), kFactColour, 0.55);
      svg += svg_text(0, 0, fact.word,
                      fmt::format("transform=\"translate({:.1f} {}) rotate(-40)\" fill=\"{}\"",
                                  x + 2, kTop - 6, kFactColour));
    }
    svg += svg_rect(kLeft, kTop, scale.width(), height(), "none", kAxisColour);
    svg += svg_text(0, 0, "query position in the text",
                    fmt::format("{} transform=\"translate(26 {}) rotate(-90)\"", kCentred,
                                kTop + height() / 2));
    return svg + key_axis(scale, num_keys, kTop + height());
  }

 private:
  const RecallTask& task_;
  std::vector<const SelectionEntry*> rows_;
  double row_height_;
};

/// One row per question, with the asked code ringed and the model's answer beside it.
std::string question_panel(const RecallTask& task, const RecallResult& result,
                           const RetrievalHead& head, const KeyScale& scale, double top) {
  SelectionCells cells(scale);
  std::string marks;
  const double answers_x = kLeft + scale.width() + 10;
  for (const auto& [fact_number, selection] : question_selections(result, head)) {
    const Fact& fact = task.facts[fact_number];
    const double y = top + kQuestionHeight * (static_cast<double>(cells.rows()) + 0.5);
    cells.add_row(*selection);
    const bool attended = holds_code(*selection, fact) || !is_searchable(*selection, fact);
    marks +=
        svg_ring(kLeft + scale.x(fact.code_begin), y, 6, attended ? kFoundColour : kMissedColour);
    marks += svg_text(kLeft - 9, y + 4, fact.word + "?", kRightAligned);
    const std::string& answer = result.answers[fact_number];
    const bool right = answer == fact.code;
    marks += svg_text(answers_x, y + 4,
                      right ? answer + ", right" : fmt::format("{} for {}", answer, fact.code),
                      fmt::format("fill=\"{}\"", right ? kFoundColour : kMissedColour));
  }
  const double height = kQuestionHeight * static_cast<double>(cells.rows());
  const auto num_keys = static_cast<std::int64_t>(task.text.size());
  std::string svg = cells.svg(kLeft, top, kQuestionHeight);
  svg += svg_rect(kLeft, top, scale.width(), height, "none", kAxisColour);
  svg += svg_text(kLeft, top - 10, "The same head, asked for each code after the text", kBold);
  svg += svg_text(answers_x, top - 10, "The model's answer", kBold);
  svg += svg_text(kLeft + scale.width() / 2, top + height + kBottom - 14, "key position", kCentred);
  return svg + key_axis(scale, num_keys, top + height) + marks;
}

}  // namespace

std::string draw_selections(const RecallTask& task, const RecallResult& result,
                            const RetrievalHead& head) {
  const TextPanel text(task, result, head);
  const auto num_keys = static_cast<std::int64_t>(task.text.size());
  const KeyScale scale = KeyScale::fit(num_keys, text.block_k(), kPlotWidth);
  const double questions_top = kTop + text.height() + kPanelGap;
  const double height =
      questions_top + kQuestionHeight * static_cast<double>(task.facts.size()) + kBottom;

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" "
      "fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      kLeft + scale.width() + kRight, height);
  svg += svg_text(
      kLeft, 34,
      fmt::format("What a retrieval head selects: layer {}, KV head {}", head.layer, head.kv_head),
      "font-size=\"20\" font-weight=\"bold\"");
  svg += svg_text(kLeft, 56,
                  fmt::format("{}. Asked for {} codes outside sink and window, its selections held "
                              "{} of them. One cell is {} keys wide.",
                              result.run.label, head.searchable, head.found, scale.keys_per_bin));
  svg += legend(kLeft, 82);
  svg += text.svg(scale, num_keys);
  svg += question_panel(task, result, head, scale, questions_top);
  return svg + "</svg>\n";
}

}  // namespace llama
