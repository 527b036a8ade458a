/// What the CPU backend's templates are made of: the rules that a search knows and the kernels that
/// do the arithmetic. Whoever instantiates the backend for something else (docs/guide/extending.md)
/// lists the same names.
#pragma once

#include <cstdint>

#include "hip_attn/cpu/portable_kernels.hpp"
#include "hip_attn/cpu/scan.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn::cpu {

/// Of the compiled library: the kernels for this machine, for every head dim that was built.
struct BuiltTraits {
  using Rules = BuiltRules;

  static const TileKernels& kernels(std::int64_t head_dim) noexcept {
    return tile_kernels(head_dim);
  }
};

/// Of headers alone, for one head dim, which may be any.
template <int kHeadDim_, typename Rules_ = BuiltRules>
struct PortableTraits {
  static constexpr int kHeadDim = kHeadDim_;
  using Rules = Rules_;

  static const TileKernels& kernels(std::int64_t /*head_dim*/) noexcept {
    return kPortableKernels<kHeadDim>;
  }
};

}  // namespace hip_attn::cpu
