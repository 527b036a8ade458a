#include "validate.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "hip_attn/build_info.hpp"

namespace hip_attn::detail {

Status check_head_dim(std::int64_t head_dim) {
  const auto built = built_head_dims();
  if (std::ranges::find(built, head_dim) != built.end()) return {};
  return {StatusCode::kUnsupported,
          fmt::format("head_dim is {}; this build has {}", head_dim, fmt::join(built, ", "))};
}

Status check_element_type(ElementType type) {
  const auto built = built_element_types();
  if (std::ranges::find(built, type) != built.end()) return {};
  std::vector<std::string_view> names;
  for (const ElementType each : built) names.push_back(to_string(each));
  return {StatusCode::kUnsupported, fmt::format("element type is {}; this build has {}",
                                                to_string(type), fmt::join(names, ", "))};
}

}  // namespace hip_attn::detail
