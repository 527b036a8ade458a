// From the value of a head dim to the instances of this build.
#pragma once

#include <cstdint>
#include <string>

#include "hip_attn/status.hpp"
#include "hip_attn_instantiations.hpp"

namespace hip_attn::cuda {

// visit.operator()<kHeadDim>() for a head dim that was built, which the checks have found it to be.
template <typename Visit>
Status visit_head_dim(std::int64_t head_dim, Visit&& visit) {
  switch (head_dim) {
#define HIP_ATTN_CASE(kHeadDim) \
  case kHeadDim:                \
    return visit.template operator()<kHeadDim>();
    HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_CASE)
#undef HIP_ATTN_CASE
    default:
      return {StatusCode::kUnsupported, "head_dim is " + std::to_string(head_dim)};
  }
}

}  // namespace hip_attn::cuda
