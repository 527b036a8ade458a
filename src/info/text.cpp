#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>

#include "report.hpp"

namespace hip_attn::info {
std::string report_text(const Json& report) { return report.dump(1); }
}
