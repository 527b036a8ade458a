/// The pooled query rows of a unit, as scorers see them.
#pragma once

#include <cstdint>

namespace hip_attn::cuda {

struct SearchRows {
  std::uint32_t* queries;  ///< in shared memory, as the scorer's Layout says
  int count;
  int padded;     ///< to whole tiles
  float* states;  ///< [count] of a reduction that needs them; null otherwise
};

}  // namespace hip_attn::cuda
