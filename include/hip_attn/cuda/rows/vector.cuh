/// The 16-byte vector, the widest access that one thread makes.
#pragma once

#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

inline constexpr int kVectorBytes = 16;

template <Element T>
inline constexpr int kVectorElements = kVectorBytes / static_cast<int>(sizeof(T));

template <Element T>
struct alignas(kVectorBytes) Vector {
  T elements[kVectorElements<T>];
};

}  // namespace hip_attn::cuda
