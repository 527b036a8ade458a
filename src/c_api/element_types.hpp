// From element types that are values to those that are types.
#pragma once

#include "hip_attn/checks/views.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::c_api {

// visit<T>() for the element type.
template <typename Visit>
Status visit_type(ElementType type, const Visit& visit) {
  switch (type) {
    case ElementType::kFloat32:
      return visit.template operator()<float>();
    case ElementType::kFloat16:
      return visit.template operator()<float16>();
    case ElementType::kBFloat16:
      return visit.template operator()<bfloat16>();
  }
  return {StatusCode::kInvalidArgument, "an unknown element type"};
}

// visit<T, C>() for the types of q and of the cache; kUnsupported for two that do not meet.
template <typename Visit>
Status visit_pair(ElementType type, ElementType cache_type, const Visit& visit) {
#define HIP_ATTN_VISIT_(T, C)                                   \
  if (type == kElementType<T> && cache_type == kElementType<C>) \
    return visit.template operator()<T, C>();
  HIP_ATTN_FOR_EACH_TYPE_PAIR(HIP_ATTN_VISIT_)
#undef HIP_ATTN_VISIT_
  return {
      StatusCode::kUnsupported,
      detail::message("shape.dtype is ", detail::to_string(type), " over a cache of ",
                      detail::to_string(cache_type), "; q has the type of the cache, or is float")};
}

}  // namespace hip_attn::c_api
