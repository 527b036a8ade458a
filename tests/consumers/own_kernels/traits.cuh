// What the kernels of this project are made for.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/search/rules.cuh"
#include "hip_attn/cuda/traits.hpp"
#include "hip_attn/types.hpp"
#include "kernels.hpp"

namespace own {

// [own-traits]
/// A chunk's first and last key.
struct FirstAndLastRule {
  static constexpr bool kDescends = false;
  static constexpr int kKeys = 2;
  __device__ static std::int32_t position(const hip_attn::cuda::ChunkRange& chunk, int i) {
    return i == 0 ? chunk.l : chunk.r - 1;
  }
};

struct OwnTraits : hip_attn::cuda::AttentionTraits<hip_attn::bfloat16, kHeadDim> {
  using Rules = hip_attn::cuda::RuleList<hip_attn::cuda::DescentRule, hip_attn::cuda::CentreRule,
                                         FirstAndLastRule>;  // ScanRule::kCustom is the third
};
// [own-traits]

}  // namespace own
