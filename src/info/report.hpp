// What hip_attn-info says, as JSON: the text is made of it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "options.hpp"

namespace hip_attn::info {

using Json = nlohmann::ordered_json;

/// Throws UsageError where no plan can be made.
Json make_report(const Options& options);

std::string report_text(const Json& report);

}  // namespace hip_attn::info
