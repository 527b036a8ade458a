// From the values of a plan to the types of its kernels.
#pragma once

#include <string>

#include "hip_attn/config.hpp"
#include "hip_attn/cuda/attention_params.hpp"
#include "hip_attn/status.hpp"
#include "launch.hpp"

namespace hip_attn::cuda {

// What the attention kernels of every operator refuse; `name` is the operator's.
inline Status check_stages(const HipConfig& config, const char* name) {
  if (config.num_stages() <= kMaxStages) return {};
  return {StatusCode::kUnsupported, "config has " + std::to_string(config.num_stages()) +
                                        " stages; " + name + " on CUDA takes up to " +
                                        std::to_string(kMaxStages)};
}

// visit.operator()<T>() for the element type T of a plan, if attention on CUDA takes it.
template <typename Visit>
Status visit_attention_type(ElementType type, const char* name, Visit&& visit) {
  switch (type) {
    case ElementType::kFloat16:
      if constexpr (kBuilt<float16>) return visit.template operator()<float16>();
      break;
    case ElementType::kBFloat16:
      if constexpr (kBuilt<bfloat16>) return visit.template operator()<bfloat16>();
      break;
    case ElementType::kFloat32:
      break;
  }
  return {StatusCode::kUnsupported,
          std::string("element type is float; ") + name + " on CUDA takes float16 and bfloat16"};
}

}  // namespace hip_attn::cuda
