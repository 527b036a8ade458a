// Checks of what this build has.
#pragma once

#include <cstdint>

#include "hip_attn/checks/views.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::detail {

Status check_head_dim(std::int64_t head_dim);
Status check_element_type(ElementType type);

}  // namespace hip_attn::detail
