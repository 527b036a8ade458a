/// What the attention kernels are made for: a plain list of types and numbers, for the host too.
#pragma once

#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

template <typename T>
struct CopyLoader;  // rows/tile_loader.cuh
template <typename... Rules>
struct RuleList;  // search/rules.cuh
struct DescentRule;
struct CentreRule;
struct Maximum;  // search/reduction.cuh

/// The traits of the library's own kernels. Whoever instantiates the kernels for something else
/// (docs/guide/extending.md) derives from them or lists the same names.
template <typename T, int kHeadDim_>
struct AttentionTraits {
  /// Of products: float16 or bfloat16.
  using Element = T;
  /// Of the cache's elements.
  using Stored = T;
  /// Brings rows of the cache into tiles of `Element`.
  using Loader = CopyLoader<T>;
  static constexpr int kHeadDim = kHeadDim_;
  /// Of the search's stages, in the order of ScanRule.
  using Rules = RuleList<DescentRule, CentreRule>;
  using Reduction = Maximum;
};

template <typename Traits>
using StoredOf = typename Traits::Stored;

}  // namespace hip_attn::cuda
