/// Pieces of an SVG file.
#pragma once

#include <string>
#include <string_view>

namespace llama {

/// Text whose baseline begins at (x, y); `attributes` are written into the element as they are.
std::string svg_text(double x, double y, std::string_view content,
                     std::string_view attributes = "");

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view colour,
                     double opacity = 1);

std::string svg_rect(double x, double y, double width, double height, std::string_view fill,
                     std::string_view stroke = "none");

/// A ring around (x, y).
std::string svg_ring(double x, double y, double radius, std::string_view colour);

}  // namespace llama
