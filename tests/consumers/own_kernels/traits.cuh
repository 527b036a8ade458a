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

using LibraryTraits = hip_attn::cuda::AttentionTraits<hip_attn::bfloat16, kHeadDim>;

struct OwnTraits : LibraryTraits {
  using Rules = LibraryTraits::Rules::With<FirstAndLastRule>;  // which is ScanRule::kCustom
};
// [own-traits]

}  // namespace own
