/// What the attention kernels are made for: a plain list of types and numbers, for the host too.
#pragma once

#include "hip_attn/core/host_device.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

template <typename T>
struct CopyLoader;  // rows/tile_loader.cuh
template <typename... Rules>
struct RuleList;  // search/rules.cuh
struct DescentRule;
struct CentreRule;
struct LandmarkRule;
struct EveryKeyRule;

/// Elements of a row in a tile in shared memory, whose columns come in blocks of 64. What lies past
/// a row's head_dim, a multiple of 32, is never looked at.
HIP_ATTN_HOST_DEVICE constexpr int tile_dim(int head_dim) { return (head_dim + 63) / 64 * 64; }

/// The traits of the library's own kernels. Whoever instantiates the kernels for something else
/// (docs/guide/extending.md) derives from them or lists the same names.
template <typename T, int kHeadDim_>
struct AttentionTraits {
  static_assert(kHeadDim_ % 32 == 0 && 32 < kHeadDim_ && kHeadDim_ <= 256,
                "the kernels take head dims 64 to 256 in steps of 32");
  /// Of products: float16 or bfloat16.
  using Element = T;
  /// Of the cache's elements.
  using Stored = T;
  /// Brings rows of the cache into tiles of `Element`.
  using Loader = CopyLoader<T>;
  static constexpr int kHeadDim = kHeadDim_;
  /// Of the search's stages, in the order of ScanRule.
  using Rules = RuleList<DescentRule, CentreRule, LandmarkRule, EveryKeyRule>;
};

template <typename Traits>
using StoredOf = typename Traits::Stored;

}  // namespace hip_attn::cuda
