/// The element type and head dim that tests of whole operators instantiate kernels with: of those
/// that the library was built for, so that its own kernels can be compared with.
#pragma once

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "hip_attn/cuda/traits.hpp"
#include "hip_attn/types.hpp"
#include "hip_attn_instantiations.hpp"

namespace hip_attn::test {

inline constexpr bool kBuiltFor16Bits = HIP_ATTN_BUILT_float16 || HIP_ATTN_BUILT_bfloat16;

/// Of products.
using BuiltElement = std::conditional_t<HIP_ATTN_BUILT_bfloat16 != 0, bfloat16, float16>;

#define HIP_ATTN_NEXT_HEAD_DIM_(kHeadDim) kHeadDim,
inline constexpr int kBuiltHeadDims[] = {HIP_ATTN_FOR_EACH_HEAD_DIM(HIP_ATTN_NEXT_HEAD_DIM_)};
#undef HIP_ATTN_NEXT_HEAD_DIM_

inline constexpr int kBuiltHeadDim =
    std::find(std::begin(kBuiltHeadDims), std::end(kBuiltHeadDims), 128) != std::end(kBuiltHeadDims)
        ? 128
        : kBuiltHeadDims[0];

using BuiltTraits = cuda::AttentionTraits<BuiltElement, kBuiltHeadDim>;

}  // namespace hip_attn::test

/// Ends a test case in a build that has no kernels of attention.
#define REQUIRE_BUILT_FOR_16_BITS() \
  if (!::hip_attn::test::kBuiltFor16Bits) HIP_ATTN_SKIP("this build has no 16-bit element type")
