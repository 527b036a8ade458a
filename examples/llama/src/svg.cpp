#include "svg.hpp"

#include <fmt/format.h>

namespace llama {
namespace {

std::string escape(std::string_view content) {
  std::string escaped;
  for (const char c : content) {
    switch (c) {
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '&':
        escaped += "&amp;";
        break;
      // A model may answer anything; XML takes neither control characters nor broken UTF-8.
      default:
        escaped += c >= ' ' && c != '\x7f' ? c : '?';
    }
  }
  return escaped;
}

}  // namespace

std::string svg_text(double x, double y, std::string_view content, std::string_view attributes) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes,
                     escape(content));
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view colour,
                     double opacity) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
      "stroke-opacity=\"{}\"/>\n",
      x1, y1, x2, y2, colour, opacity);
}

std::string svg_rect(double x, double y, double width, double height, std::string_view fill,
                     std::string_view stroke) {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\" "
      "stroke=\"{}\"/>\n",
      x, y, width, height, fill, stroke);
}

std::string svg_ring(double x, double y, double radius, std::string_view colour) {
  return fmt::format(
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"none\" stroke=\"{}\" "
      "stroke-width=\"2\"/>\n",
      x, y, radius, colour);
}

}  // namespace llama
